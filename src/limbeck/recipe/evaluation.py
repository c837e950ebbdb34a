"""What a recipe measures: its tasks, the baseline beside it, and how models are prompted."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from ..errors import LimbeckError, Problem
from ..evaluation.askable import check_askable
from ..evaluation.leaks import leak_notes
from ..evaluation.rouge import rouge_missing
from ..evaluation.scoring_notes import scoring_notes
from ..evaluation.task_files import is_generation_task, load_task, name_of_task
from ..evaluation.tasks import Task
from ..evaluation.text_generator import longest_text, most_new_tokens
from ..generation.reader import forgetting_problem
from ..models.families.lookup import architecture_of
from ..models.load import load_config, no_head, no_head_known
from ..models.locate import model_of_run
from ..models.shapes import Shape, shape_of
from ..models.weight_headers import check_body, has_vocabulary_head
from ..tokenization.load import load_tokenizer
from .prompts import split_prompts
from .schema import DataPart, EvaluationPart, Recipe
from .sides import Models
from .task_rows import TaskRows


class Asked(NamedTuple):
    """A model that tasks of generation measure.

    Attributes:
        tokenizer: Of the model.
        positions: Tokens that it reads at once.
        config: Its transformers configuration.
    """

    tokenizer: PreTrainedTokenizerFast
    positions: int
    config: Any


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
    if texts and (missing := rouge_missing()):
        problems.append(("evaluation.tasks", missing))
    if evaluation.baseline:
        try:
            problem = _control_problem(model_of_run(evaluation.baseline), texts=texts)
        except LimbeckError as error:
            problem = str(error)
        problems += [("evaluation.baseline", problem)] if problem else []
    return problems


def scored_twice(
    evaluation: EvaluationPart | None, models: Models, rows: TaskRows | None
) -> list[Problem]:
    """Tasks whose scores would replace those of the task that the student learns."""
    if evaluation is None or rows is None or rows.task is None or models.student.head is None:
        return []
    name = rows.task.name
    message = (
        f"is called {name!r} as `data.task` is, which is scored anyway, with the head that the"
        " student learns; leave it out, or give it another name, as {path: ..., task_name:"
        " ANOTHER}, to fine-tune a new head on it too"
    )
    problems = []
    for number, task in enumerate(evaluation.tasks):
        try:
            same = name_of_task(task) == name
        except LimbeckError:
            continue  # is refused as one that cannot be read
        problems += [(f"evaluation.tasks.{number}", message)] * same
    return problems


def _control_problem(name: str, *, texts: bool) -> str | None:
    """Why a model cannot be measured beside the student; its architecture may be any."""
    config = load_config(name)
    load_tokenizer(name)
    if (problem := check_body(name)) or not texts:
        return problem
    architecture = architecture_of(config)
    if not architecture.causal:
        return f"{name} is an encoder; only decoders generate texts"
    if not architecture.head:
        return no_head_known(name)
    return no_head(name) if has_vocabulary_head(name, architecture=architecture) is False else None


def task_warnings(evaluation: EvaluationPart, rows: TaskRows | None) -> list[str]:
    """How rows of tasks were read, where they might have meant something else; and duplicates.

    Args:
        evaluation: Of the recipe.
        rows: That the student learns from, whose task is scored, too.
    """
    learned = [] if rows is None or rows.task is None else [rows.task]
    scored = [load_task(task, test_split=evaluation.split) for task in evaluation.tasks]
    every = [*learned, *scored]
    notes = [note for task in every for note in (*scoring_notes(task), *leak_notes(task))]
    return list(dict.fromkeys(notes))


def learned_warnings(data: DataPart, evaluation: EvaluationPart) -> list[str]:
    """Tasks of prompts of which the student learns the very answers that are scored."""
    tasks = [
        load_task(task, test_split=evaluation.split)
        for task in evaluation.tasks
        if is_generation_task(task)
    ]
    if not data.prompts or not tasks:
        return []
    known = {(row.identity, row.references[0]) for row in split_prompts(data, held_out=False)}
    found = []
    for task in tasks:
        count = sum((row.identity, row.references[0]) in known for row in task.prompts)
        if count:
            found.append(
                f"{task.name}: {count:,} of its {len(task.prompts):,} scored rows are among"
                " `data.prompts`, with the same answers, and are learned; score rows that are not"
            )
    return found


def prompted_alike(recipe: Recipe) -> EvaluationPart:
    """How models are prompted: as in the recipe's data, unless its evaluation says otherwise."""
    part, data = recipe.evaluation, recipe.data
    own = part.generation
    generation = replace(
        own,
        separator=data.separator if own.separator is None else own.separator,
        chat_template=data.chat_template if own.chat_template is None else own.chat_template,
    )
    return part.model_copy(update={"generation": generation})


def chat_problems(recipe: Recipe, models: Models) -> list[Problem]:
    """Models that tasks of generation cannot be measured with.

    They cannot generate text here; are prompted in a chat template and have none, or one that does
    not suit; or answers leave no room for a prompt.
    """
    part = recipe.evaluation
    generation = [
        (number, load_task(location, test_split=part.split))
        for number, location in enumerate(part.tasks)
        if is_generation_task(location)
    ]
    if not generation:
        return []
    asked = _asked(recipe, models)
    forgetting = [
        (f"evaluation.tasks.{number}", f"lets {who} answer, which {problem}; leave it out")
        for number, _ in generation
        for who, model in asked.items()
        if (problem := forgetting_problem(model.config))
    ]
    if forgetting:
        return forgetting
    chat = part.generation.chat_template
    if not chat:
        problems = [
            ("evaluation.generation.chat_template", message)
            for _, task in generation
            if (message := _needs_template(task))
        ]
        return problems or _room_problems(recipe, asked)
    message = "asks all models in their chat template, and {} has none; say false, or name one"
    problems = [
        ("evaluation.generation.chat_template", message.format(who))
        for who, model in asked.items()
        if not model.tokenizer.chat_template
    ]
    if problems:
        return problems
    for number, task in generation:
        for who, model in asked.items():
            try:
                check_askable(task, model.tokenizer, part.generation)
            except LimbeckError as error:
                problems.append((f"evaluation.tasks.{number}", f"of {who}: {error}"))
    return problems or _room_problems(recipe, asked)


def _asked(recipe: Recipe, models: Models) -> dict[str, Asked]:
    """The models that tasks of generation measure, by what messages call them."""
    part, sides = recipe.evaluation, {"the student": models.student}
    if models.teacher and part.teacher and recipe.server is None:
        sides["the teacher"] = models.teacher
    asked = {who: _asked_of(side.tokenizer, side.shape, side.config) for who, side in sides.items()}
    if part.baseline:
        name = model_of_run(part.baseline)
        config = load_config(name)
        shape = shape_of(config, architecture_of(config))
        asked[part.baseline] = _asked_of(load_tokenizer(name), shape, config)
    return asked


def _asked_of(tokenizer: PreTrainedTokenizerFast, shape: Shape, config: Any) -> Asked:
    return Asked(tokenizer, shape.max_position_embeddings, config)


def _room_problems(recipe: Recipe, asked: Mapping[str, Asked]) -> list[Problem]:
    """Answers so long that a model cannot read a prompt beside them."""
    settings, fits = recipe.evaluation.generation, {}
    for who, model in asked.items():
        length = longest_text(model.positions, settings)
        fits[who] = most_new_tokens(model.tokenizer, length, settings)
    who, most = min(fits.items(), key=lambda one: one[1])
    if settings.max_new_tokens <= most:
        return []
    length = longest_text(asked[who].positions, settings)
    message = f"is {settings.max_new_tokens}, and {who} reads {length} tokens with the prompt"
    if most < 1:
        message += ", of which its chat template leaves none; give a larger max_length, or say"
        return [("evaluation.generation.max_new_tokens", f"{message} `chat_template: false`")]
    learned = recipe.data.longest_response if recipe.data.prompts else most
    also = f" (the responses of the data have up to {learned})" if learned < most else ""
    return [("evaluation.generation.max_new_tokens", f"{message}; give {most} at most{also}")]


def _needs_template(task: Task) -> str | None:
    """Why a task cannot be measured without a chat template, if it cannot."""
    first = next((row.conversation for row in task.test if row.conversation), None)
    if first is None:
        return None
    return (
        f"is needed for {task.name}, of which {first.place} is a conversation; say true, or give"
        " rows of prompt and response"
    )
