"""What a recipe measures: its tasks, the baseline beside it, and how models are prompted."""

from dataclasses import replace

from ..errors import LimbeckError, Problem
from ..evaluation.scoring_notes import scoring_notes
from ..evaluation.task_files import is_generation_task, load_task
from ..models.families import architecture_of
from ..models.load import load_config, no_head
from ..models.locate import model_of_run
from ..models.weight_headers import check_body, has_vocabulary_head
from ..tokenization.load import load_tokenizer
from .schema import EvaluationPart, Recipe
from .sides import Models


def evaluation_problems(evaluation: EvaluationPart) -> list[Problem]:
    """Tasks that cannot be read, and a baseline that cannot be measured."""
    problems = []
    texts = False
    for number, task in enumerate(evaluation.tasks):
        try:
            load_task(task, test_split=evaluation.split)
            texts |= is_generation_task(task)
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


def task_warnings(evaluation: EvaluationPart) -> list[str]:
    """What tasks are scored as, where their rows might have meant something else."""
    tasks = [load_task(task, test_split=evaluation.split) for task in evaluation.tasks]
    return [note for task in tasks for note in scoring_notes(task)]


def prompted_alike(recipe: Recipe) -> EvaluationPart:
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


def chat_problems(recipe: Recipe, models: Models) -> list[Problem]:
    """Models that are to be asked in a chat template, and have none."""
    part = recipe.evaluation
    if not part.generation.chat_template or not any(map(is_generation_task, part.tasks)):
        return []
    asked = {"the student": models.student.tokenizer}
    if models.teacher is not None and part.teacher:
        asked["the teacher"] = models.teacher.tokenizer
    if part.baseline:
        asked[part.baseline] = load_tokenizer(model_of_run(part.baseline))
    message = "asks all models in their chat template, and {} has none; say false, or name one"
    return [
        ("evaluation.generation.chat_template", message.format(who))
        for who, tokenizer in asked.items()
        if not tokenizer.chat_template
    ]
