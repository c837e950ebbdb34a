"""From a recipe to the plain objects that the rooms take, with every problem found on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.corpus import MOST_SOURCES
from ..data.text import check_source
from ..errors import DeviceError, LimbeckError, Problem, RecipeError
from ..models.int8_dynamic import int8_dynamic_missing
from ..models.openvino_forward import openvino_missing
from ..models.task_heads import padding_problem
from ..objectives.class_logits import NO_HEAD
from ..system.device import choose_device, emulation_warning
from ..system.int8_range import int8_range
from ..training.stage import Stage
from .amounts import amount_problems, amount_warnings
from .describe import describe_models
from .ensemble import ensemble_problems, with_ensemble
from .evaluation import (
    chat_problems,
    evaluation_problems,
    learned_warnings,
    prompted_alike,
    scored_twice,
    task_warnings,
)
from .extras import extra_problems
from .layers import (
    attention_problems,
    prediction_problems,
    teacher_head_problems,
    window_warnings,
)
from .low_rank import (
    factor_stage_problems,
    frozen_problems,
    low_rank_problems,
    untrained_problems,
)
from .parse import Parsed, parse, problems_message
from .placement import placement_problems
from .prompts import (
    ends_problems,
    ends_warnings,
    engine_problems,
    prompt_problems,
    template_problems,
    template_warnings,
    unread_warnings,
)
from .schema import DataPart, Recipe, TrainingPart
from .server import server_problems
from .setup import Setup
from .sides import Models
from .stage_rows import NO_ROWS, rows_warnings
from .stages import BuiltStage, build_stages, dropout_warnings
from .task import find_task
from .task_rows import TaskRows
from .tokenizers import (
    coverage_problems,
    initialization_problems,
    normalizer_warnings,
    spelled_warnings,
    truncation_warnings,
)
from .vectors import vector_problems

_READ = ("data.text", "data.prompts")


def prepare(raw: Mapping[str, Any]) -> Setup:
    """The setup of a recipe.

    Raises:
        RecipeError: With every problem, one a line, each with its field's path.
    """
    setup, problems = check(raw)
    if setup is None:
        raise RecipeError(problems_message(problems))
    return setup


def check(raw: Mapping[str, Any]) -> tuple[Setup | None, list[Problem]]:
    """The setup of a recipe, or None and all that is wrong with it.

    Parts without problems of form are checked for what they mean even where
    others have some, so that one look shows everything.
    """
    parsed, problems = parse(raw)
    problems += _problems_of_parts(parsed)
    models, found, warnings = _described(parsed)
    problems += found
    stages: list[BuiltStage] = []
    rows = None
    if models and parsed.data:
        task = find_task(models, parsed.teacher, parsed.data, parsed.evaluation)
        models, rows = task.models, task.rows
        problems += task.problems + scored_twice(parsed.evaluation, models, rows)
        warnings += task.warnings
        if not task.problems:
            models, found, more = with_ensemble(
                models, parsed.teacher, max_length=parsed.data.max_length
            )
            problems += found
            warnings += more
        problems += _reading_problems(models, parsed.data)
        stages, found = build_stages(parsed.stages, models, parsed.data, rows)
        if task.problems:  # which is why no model has the head of a task, and there are no rows
            found = [(field, said) for field, said in found if said not in (NO_HEAD, NO_ROWS)]
        problems += [problem for problem in found if problem not in problems]
    if models:
        problems += _problems_of_models(parsed, models, stages)
    if models and parsed.data and not any(path.startswith(_READ) for path, _ in problems):
        problems += coverage_problems(models, parsed.data, rows) or amount_problems(
            models, parsed.data
        )
    recipe = parsed.recipe
    if recipe:
        problems += factor_stage_problems(recipe.stages, recipe.student.low_rank)
    if recipe and models and not problems:
        recipe = recipe.model_copy(update={"evaluation": prompted_alike(recipe)})
        problems += chat_problems(recipe, models) + ends_problems(recipe, models)
        problems += untrained_problems(models, recipe, [built.stage for built in stages])
    if recipe is None or models is None or problems:
        return None, problems
    loop_stages = [built.stage for built in stages]
    warnings += [*_warnings(recipe, models, loop_stages, rows), *rows_warnings(rows, loop_stages)]
    maskings = [built.masking for built in stages]
    setup = Setup(recipe, models, loop_stages, maskings, warnings, rows).with_seed(recipe.seed)
    if emulated := emulation_warning(setup.precision, setup.device):
        warnings.append(emulated)
    engine = recipe.teacher.engine if recipe.teacher and recipe.teacher.runs_here else "torch"
    if engine == "openvino-int8" and (here := int8_range()).reduced:
        warnings.append(
            f"teacher.engine: {here.reason}; openvino-int8 is not faster than torch here: use"
            " openvino, or quantize: int8_dynamic"
        )
    return setup, []


def _problems_of_parts(parsed: Parsed) -> list[Problem]:
    """What is wrong with packages, the device, files of text and prompts, and tasks."""
    problems = extra_problems(parsed)
    problems += _device_problems(parsed.training) if parsed.training else []
    problems += _data_problems(parsed.data) if parsed.data else []
    problems += evaluation_problems(parsed.evaluation) if parsed.evaluation else []
    return problems


def _described(parsed: Parsed) -> tuple[Models | None, list[Problem], list[str]]:
    """Both models, where the recipe says enough of them."""
    if parsed.student is None or (parsed.has_teacher and parsed.teacher is None):
        return None, [], []
    return describe_models(parsed.teacher, parsed.student)


def _reading_problems(models: Models, data: DataPart) -> list[Problem]:
    """Sequences and prompts that a model cannot read as they are."""
    problems = template_problems(models, data)
    parts = f", of which {data.longest_response} the response (`max_new_tokens`)"
    said = f"is {data.max_length}{parts if data.prompts else ''}, but the"
    limit = models.student.shape.max_position_embeddings
    if data.max_length > limit:
        message = f"{said} student reads {limit} at most; make it smaller"
        problems.append(("data.max_length", message))
    elif models.teacher and (data.text or data.prompts) and not models.two_vocabularies:
        limit = models.teacher.shape.max_position_embeddings
        if data.max_length > limit:
            message = f"{said} teacher reads {limit} at most; make it smaller, or name a teacher"
            problems.append(("data.max_length", f"{message} that reads more"))
    return problems


def _problems_of_models(
    parsed: Parsed, models: Models, stages: Sequence[BuiltStage]
) -> list[Problem]:
    """What the stages need of the models, and these do not have."""
    problems: list[Problem] = []
    mixed = any(built.stage.mixed is not None for built in stages)
    whole = len(stages) == len(parsed.stages)  # else their numbers are not those of the recipe
    loop_stages = [built.stage for built in stages]
    problems += server_problems(
        parsed.teacher, parsed.student, models, loop_stages if whole else None
    )
    if whole:
        problems += attention_problems(models, loop_stages)
        problems += prediction_problems(models, loop_stages)
        problems += ensemble_problems(parsed.teacher, loop_stages)
        if parsed.training and parsed.student:
            problems += frozen_problems(loop_stages, parsed.student.low_rank, parsed.training)
        if parsed.data:
            problems += vector_problems(parsed.teacher, models, parsed.data, loop_stages)
    if mixed and len(parsed.stages) == 1:
        message = "a mixed stage trains only the student's table; add a stage with `labels`"
        problems.append(("stages", message))
    for name in ("quantize", "engine"):
        if mixed and getattr(parsed.teacher, name, None) not in (None, "torch"):
            message = "is for a teacher that only runs, and a mixed stage trains it; leave it out"
            problems.append((f"teacher.{name}", message))
    problems += [*_quantize_problems(parsed), *_teacher_engine_problems(parsed)]
    problems += placement_problems(parsed.teacher, loop_stages)
    theirs = models.teacher
    if theirs and theirs.head and theirs.architecture.causal:
        found = padding_problem(theirs.head, theirs.config, theirs.tokenizer)
        problems += [("teacher.model", found)] if found else []
    needs_head = not mixed and any(built.stage.needs_teacher_logits for built in stages)
    if parsed.teacher and parsed.teacher.server is None and models.teacher and needs_head:
        problems += teacher_head_problems(parsed.teacher.model, models.teacher)
    if parsed.student and parsed.student.low_rank:
        own = parsed.student.model is not None
        problems += low_rank_problems(models, parsed.student.low_rank, mixed=mixed, pretrained=own)
    if parsed.student:
        problems += initialization_problems(models, parsed.student, mixed=mixed)
    problems += engine_problems(parsed.stages)
    return problems


def _quantize_problems(parsed: Parsed) -> list[Problem]:
    """Products of 8 bits that the machine does not have, where the teacher runs on it."""
    teacher = parsed.teacher
    if not (teacher and teacher.quantize == "int8_dynamic" and teacher.runs_here):
        return []
    problem = int8_dynamic_missing()
    if kind := _other_device(parsed.training):
        problem = f"is int8_dynamic, which is for a processor, and the device is {kind}; use int8,"
        problem += " set training.device: cpu, or leave it out"
    return [("teacher.quantize", problem)] if problem else []


def _teacher_engine_problems(parsed: Parsed) -> list[Problem]:
    """A teacher on OpenVINO, where that is not there or cannot run it."""
    teacher = parsed.teacher
    if teacher is None or teacher.engine == "torch" or not teacher.runs_here:
        return []
    problems = []
    if missing := openvino_missing():
        problems.append(missing)
    if kind := _other_device(parsed.training):
        problems.append(
            f"is for a processor, and the device is {kind}; set training.device: cpu, or leave it"
            " out"
        )
    if teacher.quantize:
        problems.append("has weights of its own, which `quantize` does not change; leave it out")
    if teacher.ensemble:
        problems.append("runs one teacher, and `ensemble` names others; leave one of the two out")
    if parsed.data and parsed.data.isolate_documents:
        problems.append("does not keep documents of one row apart (data.isolate_documents)")
    return [("teacher.engine", f"is {teacher.engine}, which {problem}") for problem in problems]


def _other_device(training: TrainingPart | None) -> str | None:
    """The device of a training, where it is known and not the processor."""
    if training is None or _device_problems(training):
        return None
    kind = choose_device(training.device).type
    return None if kind == "cpu" else kind


def _warnings(
    recipe: Recipe, models: Models, stages: Sequence[Stage], rows: TaskRows | None
) -> list[str]:
    """What may be meant, and is worth a look."""
    return [
        *unread_warnings(recipe.data),
        *template_warnings(models, recipe.data),
        *ends_warnings(recipe, models),
        *normalizer_warnings(models, recipe.student, recipe.data),
        *spelled_warnings(models, recipe.data),
        *truncation_warnings(models, recipe.data, rows),
        *task_warnings(recipe.evaluation, rows),
        *learned_warnings(recipe.data, recipe.evaluation),
        *window_warnings(models, stages),
        *dropout_warnings(models, stages),
        *amount_warnings(models, recipe.data, stages),
    ]


def _device_problems(training: TrainingPart) -> list[Problem]:
    try:
        choose_device(training.device)
    except DeviceError as error:
        return [("training.device", str(error))]
    return []


def _data_problems(data: DataPart) -> list[Problem]:
    problems = prompt_problems(data)
    if len(data.text) > MOST_SOURCES:
        message = f"names {len(data.text):,} texts, and may name {MOST_SOURCES:,}; join some files"
        return [*problems, ("data.text", message)]
    for number, source in enumerate(data.text):
        try:
            check_source(source)
        except LimbeckError as error:
            problems.append((f"data.text.{number}", str(error)))
    return problems
