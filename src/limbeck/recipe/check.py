"""From a recipe to the plain objects that the rooms take, with every problem found on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..data.text import check_source
from ..errors import DeviceError, LimbeckError, Problem, RecipeError
from ..evaluation.scoring_notes import scoring_notes
from ..evaluation.tasks import asks_for_texts, load_task
from ..models.families import architecture_of
from ..models.load import load_config, no_head
from ..models.locate import model_of_run
from ..models.weight_headers import check_body, check_weights, has_vocabulary_head
from ..system.device import Precision, choose_device, choose_precision, emulation_warning
from ..teacher.manifest import with_cached_teacher
from ..tokenization.load import load_tokenizer
from ..tokenization.masking import Masking, NextToken
from ..training.stages import Stage
from .amounts import amount_problems, amount_warnings
from .describe import describe_models
from .low_rank import factor_stage_problems, low_rank_problems
from .methods import with_method
from .parse import parse_recipe, problems_message
from .prompts import (
    ends_problems,
    ends_warnings,
    prompt_problems,
    template_problems,
    template_warnings,
)
from .schema import (
    DataPart,
    EvaluationPart,
    Recipe,
    StagePart,
    StudentPart,
    TeacherPart,
    TrainingPart,
    as_model,
)
from .sides import Models
from .stages import build_mixed_stage, build_stage
from .tokenizers import (
    first_weight_problems,
    normalisation_warnings,
    spelled_warnings,
    writing_problems,
)

_Part = TypeVar("_Part", bound=BaseModel)


@dataclass(frozen=True)
class Setup:
    """A checked recipe, and what follows from it."""

    recipe: Recipe
    models: Models
    stages: list[Stage]
    maskings: list[Masking | NextToken | None]
    warnings: list[str]

    def with_seed(self, seed: int) -> "Setup":
        """The same by another chance."""
        recipe = self.recipe.model_copy(update={"seed": seed})
        stages = [replace(stage, seed=seed + n) for n, stage in enumerate(self.stages)]
        return replace(self, recipe=recipe, stages=stages)

    @cached_property
    def device(self) -> torch.device:
        """Where both models run."""
        return choose_device(self.recipe.training.device)

    @cached_property
    def precision(self) -> Precision:
        """In which both models run, and why."""
        return choose_precision(self.recipe.training.precision, self.device)

    @cached_property
    def has_trained_head(self) -> bool:
        """Whether some stage trains the student's vocabulary head, or the student came with one."""
        if any(s.student_needs().predictions for s in self.stages if s.mixed is None):
            return True
        name = self.recipe.student.model
        return (
            name is not None
            and has_vocabulary_head(name, architecture=self.models.architecture) is not False
        )


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
    recipe, problems = parse_recipe(raw)
    raw, _ = with_cached_teacher(with_method(raw)[0])
    if training := _part(TrainingPart, raw.get("training", {})):
        problems += _device_problems(training)
    if data := _part(DataPart, raw.get("data")):
        problems += _data_problems(data)
    if evaluation := _part(EvaluationPart, raw.get("evaluation", {})):
        problems += _evaluation_problems(evaluation)
    models = None
    teacher = raw.get("teacher")
    teacher_part = _part(TeacherPart, as_model(teacher))
    student_part = _part(StudentPart, as_model(raw.get("student")))
    warnings: list[str] = []
    if student_part and (teacher_part or teacher is None):
        models, found, warnings = describe_models(teacher_part, student_part)
        problems += found
    if models and data:
        problems += template_problems(models, data)
    if models and data and data.max_length > models.student.max_position_embeddings:
        limit = models.student.max_position_embeddings
        problems.append(
            ("data.max_length", f"is {data.max_length}, but the student reads {limit} at most")
        )
    stages: list[Stage | None] = []
    maskings = []
    mixed = False
    listed = raw.get("stages")
    for number, stage_raw in enumerate(listed if isinstance(listed, list) else []):
        part = _part(StagePart, stage_raw)
        if part and models and data:
            make = build_stage if part.mixed is None else build_mixed_stage
            known = models.after_mixed() if mixed else models
            stage, masking, found = make(part, number, known, data)
            problems += [problem for problem in found if problem not in problems]
            mixed = mixed or (stage is not None and stage.mixed is not None)
            stages.append(stage)
            maskings.append(masking)
    if teacher_part and models and models.teacher_architecture:
        asking = [s.name for s in stages if s and s.asks_logits]
        architecture = models.teacher_architecture
        asking = [] if mixed else asking
        if asking and has_vocabulary_head(teacher_part.model, architecture=architecture) is False:
            partial, _ = check_weights(
                teacher_part.model, architecture=architecture, head_in_part=False
            )
            problems.append(("teacher.model", partial or no_head(teacher_part.model)))
    if mixed and len(stages) == 1:
        message = "a mixed stage trains only the student's table; add a stage with `labels`"
        problems.append(("stages", message))
    unread = ("data.text", "data.prompts")
    if models and data and not any(path.startswith(unread) for path, _ in problems):
        problems += writing_problems(models, data) or amount_problems(models, data)
    if models and student_part and student_part.low_rank:
        own = student_part.model is not None
        problems += low_rank_problems(models, student_part.low_rank, mixed=mixed, pretrained=own)
    if models and student_part:
        problems += first_weight_problems(models, student_part, mixed=mixed)
    if recipe is not None:
        problems += factor_stage_problems(recipe.stages, recipe.student.low_rank)
    if recipe is not None and models is not None and not problems:
        recipe = recipe.model_copy(update={"evaluation": _asked_alike(recipe)})
        problems += _asking_problems(recipe, models)
        problems += ends_problems(recipe, models)
    if recipe is None or models is None or problems:
        return None, problems
    warnings += template_warnings(models, recipe.data)
    warnings += ends_warnings(recipe, models)
    warnings += normalisation_warnings(models, recipe.student, recipe.data)
    warnings += spelled_warnings(models, recipe.data)
    warnings += _task_warnings(recipe.evaluation)
    made = [stage for stage in stages if stage]
    warnings += _window_warnings(models, made)
    warnings += amount_warnings(models, recipe.data, made)
    setup = Setup(recipe, models, made, maskings, warnings).with_seed(recipe.seed)
    if emulated := emulation_warning(setup.precision, setup.device):
        warnings.append(emulated)
    return setup, []


def _part(kind: type[_Part], value: Any) -> _Part | None:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _device_problems(training: TrainingPart) -> list[Problem]:
    try:
        choose_device(training.device)
    except DeviceError as error:
        return [("training.device", str(error))]
    return []


def _data_problems(data: DataPart) -> list[Problem]:
    problems = prompt_problems(data)
    for number, source in enumerate(data.text):
        try:
            check_source(source)
        except LimbeckError as error:
            problems.append((f"data.text.{number}", str(error)))
    return problems


def _evaluation_problems(evaluation: EvaluationPart) -> list[Problem]:
    problems = []
    texts = False
    for number, task in enumerate(evaluation.tasks):
        try:
            load_task(task, test_split=evaluation.split)
            texts |= asks_for_texts(task)
        except LimbeckError as error:
            problems.append((f"evaluation.tasks.{number}", str(error)))
    if evaluation.baseline:
        try:
            problem = _control_problem(model_of_run(evaluation.baseline), texts=texts)
        except LimbeckError as error:
            problem = str(error)
        problems += [("evaluation.baseline", problem)] if problem else []
    return problems


def _control_problem(name: str, *, texts: bool) -> str | None:
    """Why a model cannot be measured beside the student; its architecture may be any."""
    config = load_config(name)
    load_tokenizer(name)
    if (problem := check_body(name)) or not texts:
        return problem
    architecture = architecture_of(config.model_type)
    if not architecture.causal:
        return f"{name} is an encoder; only decoders write texts"
    return no_head(name) if has_vocabulary_head(name, architecture=architecture) is False else None


def _task_warnings(evaluation: EvaluationPart) -> list[str]:
    tasks = [load_task(task, test_split=evaluation.split) for task in evaluation.tasks]
    return [note for task in tasks for note in scoring_notes(task)]


def _asked_alike(recipe: Recipe) -> EvaluationPart:
    """How the student is measured: asked as it has learned to be, where nothing else is said."""
    part, data = recipe.evaluation, recipe.data
    between = data.separator if part.generation.separator is None else part.generation.separator
    chat = (
        data.chat_template
        if part.generation.chat_template is None
        else part.generation.chat_template
    )
    writing = replace(part.generation, separator=between, chat_template=chat)
    return part.model_copy(update={"writing": writing})


def _asking_problems(recipe: Recipe, models: Models) -> list[Problem]:
    """Models that are to be asked in a chat template, and have none."""
    part = recipe.evaluation
    if not part.generation.chat_template or not any(map(asks_for_texts, part.tasks)):
        return []
    asked = {"the student": models.tokenizer}
    if models.teacher_tokenizer is not None and part.teacher:
        asked["the teacher"] = models.teacher_tokenizer
    if part.baseline:
        asked[part.baseline] = load_tokenizer(model_of_run(part.baseline))
    message = "asks all models in their chat template, and {} has none; say false, or name one"
    return [
        ("evaluation.generation.chat_template", message.format(who))
        for who, tokenizer in asked.items()
        if not tokenizer.chat_template
    ]


def _window_warnings(models: Models, stages: Sequence[Stage]) -> list[str]:
    """Attention that sees a window of the text, compared with attention that sees all of it."""
    kinds = [
        None if config is None else config.to_dict().get("layer_types")
        for config in (models.student_config, models.teacher_config)
    ]
    found = []
    for stage in stages:
        for name, objective in stage.objectives.items():
            needs = objective.teacher_needs()
            pairs = objective.layer_pairs() if needs.queries or needs.keys or needs.values else []
            for pair in pairs:
                local = [
                    f"the {whose}'s layer {layer}"
                    for whose, layer, kind in zip(("student", "teacher"), pair, kinds, strict=True)
                    if kind and kind[layer] != "full_attention"
                ]
                if local:
                    found.append(
                        f"stage {stage.name}, {name}: {' and '.join(local)} sees a window of the"
                        " text alone, and is compared over all of it; name layers that see it all"
                    )
    return found


def layer_lines(stages: Sequence[Stage]) -> list[tuple[str, str, int, int]]:
    """(stage, objective, student layer, teacher layer) of every pair that learns."""
    return [
        (stage.name, name, student, teacher)
        for stage in stages
        for name, objective in stage.objectives.items()
        for student, teacher in objective.layer_pairs()
    ]
