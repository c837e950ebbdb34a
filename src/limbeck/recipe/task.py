"""The task that a student learns: the heads of both models, and whether the rows suit them."""

import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..errors import LimbeckError, Problem
from ..evaluation.mapped_rows import is_number
from ..evaluation.tasks import Task, TaskKind, number_of, numbers_of
from ..models.task_heads import (
    SCORE,
    TaskHead,
    gives_numbers,
    head_missing,
    head_of,
    label_problem,
    listed,
    no_head_of_task,
    other_head,
    padding_problem,
)
from .models_part import TeacherPart
from .row_forms import one_or_several
from .schema import DataPart, EvaluationPart
from .sides import Models, ModelSide
from .task_rows import SourceError, TaskRows, rows_of

_HOW = "`data: {task: {path: ..., label: ...}}`"
_PREDICTS: dict[str, Literal["label", "tags"]] = {"sequence": "label", "token": "tags"}


@dataclass(frozen=True)
class FoundTask:
    """The task of a recipe, as far as it could be read.

    Attributes:
        models: Both with their heads, where the recipe has a task.
        rows: None without a task, and where something is wrong with it.
    """

    models: Models
    rows: TaskRows | None
    problems: list[Problem]
    warnings: list[str]


def find_task(
    models: Models, teacher: TeacherPart | None, data: DataPart, evaluation: EvaluationPart | None
) -> FoundTask:
    """The rows that a recipe learns a task from, and both models with the heads of that task."""
    if data.task is None and not data.rows:
        found: list[Problem] = []
        if teacher and teacher.labels:
            found.append(("teacher.labels", "is for the rows of a task; give `data.task`"))
        if data.predict:
            found.append(("data.predict", "is for the rows of a task; give `data.task`"))
        return FoundTask(models, None, found, [])
    theirs = head_of(models.teacher.config) if models.teacher else None
    try:
        if theirs and teacher:  # with an ensemble, a label may be that of another teacher
            theirs = theirs.renamed(teacher.labels, strict=not teacher.ensemble)
    except LimbeckError as error:
        field = "teacher.labels" if teacher and teacher.labels else "teacher.model"
        return FoundTask(models, None, [(field, str(error))], [])
    if models.teacher and gives_numbers(models.teacher.config):
        message = no_head_of_task(models.teacher.name, models.teacher.config)
        return FoundTask(models, None, [("teacher.model", message)], [])
    predict = data.predict or (_PREDICTS[theirs.kind] if theirs else None)
    split, scored = (evaluation.split, evaluation.tasks) if evaluation else (None, [])
    try:
        rows = rows_of(data, predict=predict, split=split, scored=scored)
    except SourceError as error:
        return FoundTask(models, None, [(error.field, str(error))], [])
    except LimbeckError as error:
        return FoundTask(
            models, None, [("data.task" if data.task else "data.rows", str(error))], []
        )
    return _with_heads(models, theirs, rows)


def _with_heads(models: Models, theirs: TaskHead | None, rows: TaskRows) -> FoundTask:
    own = head_of(models.student.config) if models.student.name else None
    problems, warnings = [], list[str]()
    if theirs is not None and rows.task:
        rows = rows.in_scheme_of(theirs.labels)
        problems += _teacher_problems(theirs, rows)
    wanted = theirs or _head_of_rows(rows)
    if rows.task and rows.task.kind is TaskKind.CLASSIFICATION and len(rows.labels) == 1:
        message = f"has one label alone, {rows.labels[0]!r}; a classifier needs rows of two or more"
        problems.append(("data.task", message))
    if rows.task and rows.task.kind is TaskKind.MULTI_LABEL and not rows.labels:
        problems.append(("data.task", "has no label in any row; give rows that have some"))
    if problems:
        return FoundTask(models, None, problems, warnings)
    if wanted is None:  # objectives that need a head say so
        return FoundTask(models, rows, [], [])
    head = wanted
    if own and own.says_what(wanted):
        head = own
    elif models.student.name and (said := _lost_head(own, models.student.config)):
        warnings.append(
            f"the head of {models.student.name!r} is {said}, and what is learned needs"
            f" {wanted.about} for {listed(wanted.labels)}; the student gets a new one with random"
            " weights"
        )
    config = copy.deepcopy(models.student.config)
    head.set_on(config)
    student = with_head(replace(models.student, config=config), head)
    problems += _student_problems(student, head)
    taught = models.teacher and with_head(models.teacher, theirs)
    if rows.dropped:
        warnings.append(
            f"{rows.dropped} rows without labels are left out: they are among the scored rows"
        )
    if rows.repeated:
        warnings.append(
            f"{rows.repeated} rows of `data.rows` are there more than once, or are rows of"
            " `data.task` too: each is learned as often as it is there"
        )
    if rows.unread:
        warnings.append(
            f"{rows.unread} rows of `data.rows` have labels or tags, which are not read: the"
            " teacher gives them; rows whose labels are learned are those of `data.task`"
        )
    return FoundTask(replace(models, student=student, teacher=taught), rows, problems, warnings)


def _lost_head(own: TaskHead | None, config: Any) -> str | None:
    """What the head of a student is for, which it does not keep; None of one of a vocabulary."""
    if own is not None:
        return f"{own.about} for {listed(own.labels)}"
    other = other_head(config)
    return f"of another kind ({other})" if other else None


def with_head(side: ModelSide, head: TaskHead | None) -> ModelSide:
    """A model with the head of a task."""
    if head is None:
        return side
    return replace(side, head=head, shape=head.on(side.shape))


def _head_of_rows(rows: TaskRows) -> TaskHead | None:
    if rows.task is None or rows.kind is None:
        return None
    if rows.task.kind is TaskKind.REGRESSION:
        return TaskHead("sequence", (SCORE,))
    return TaskHead(rows.kind, rows.labels, rows.task.kind is TaskKind.MULTI_LABEL)


def _teacher_problems(theirs: TaskHead, rows: TaskRows) -> list[Problem]:
    """A head of another kind than the rows' labels, or other labels."""
    kind = rows.task.kind if rows.task else None
    # Of two labels, as those of rows may be one alone, which is for others to say.
    labels = (SCORE,) if kind is TaskKind.REGRESSION else ("", "")
    wanted = TaskHead(rows.kind or "sequence", labels, kind is TaskKind.MULTI_LABEL)
    if not theirs.like(wanted):
        message = f"has {theirs.about}, and the rows of the task need {wanted.about}"
        message += "; give a model that was fine-tuned on such rows"
        return [("teacher.model", f"{message}{_other_labels(theirs, rows.task)}")]
    if theirs.scores:
        return []
    problem = label_problem(rows.labels, theirs.labels, "the teacher")
    return [("teacher.labels", problem)] if problem else []


def _other_labels(theirs: TaskHead, task: Task | None) -> str:
    """The end of a message, where the labels may have been meant otherwise than they are read."""
    if task is None or theirs.kind != "sequence":
        return ""
    if said := one_or_several(theirs, task):
        return said
    if task.kind is TaskKind.REGRESSION and not theirs.scores:
        numbers = sorted(set(map(number_of, task.train)))
        if not all(number.is_integer() for number in numbers):
            return ""
        some = zip(numbers, theirs.labels[:2], strict=False)
        names = ", ".join(f"{number:.0f}: {name}" for number, name in some)
        return (
            f"; the labels are {numbers_of(task)}: where they are classes, name them"
            f" (`labels: {{{names}, ...}}`), or say `problem_type: classification`, in {_HOW}"
        )
    if task.kind is TaskKind.CLASSIFICATION and theirs.scores and all(map(is_number, task.labels)):
        return f"; where the labels are amounts, say `problem_type: regression`, in {_HOW}"
    return ""


def _student_problems(student: ModelSide, head: TaskHead) -> list[Problem]:
    field = "student.model" if student.name else "student.model_type"
    if missing := head_missing(head, student.config):
        return [(field, missing)]
    if student.architecture.text_encoder:
        message = "is the encoder of a pair, for which transformers has no head of this kind alone"
        return [(field, message)]
    problem = padding_problem(head, student.config, student.tokenizer)
    if problem and not student.name:
        field = "student.tokenizer"
        problem = "has no pad_token, by which transformers finds the last token of a text; add one"
    return [(field, problem)] if problem and student.architecture.causal else []
