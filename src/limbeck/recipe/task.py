"""The task that a student learns: the heads of both models, and whether the rows suit them."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..data.query_pairs import query_numbers, rows_alone
from ..errors import LimbeckError, Problem
from ..evaluation.mapped_rows import is_number
from ..evaluation.tasks import Task, TaskKind, numbers_of
from ..models.task_heads import (
    SCORE,
    TaskHead,
    head_missing,
    head_of,
    is_multi_label,
    label_problem,
    listed,
    no_head_of_task,
    other_head,
    padding_problem,
)
from ..objectives.class_labels import ClassLabels
from ..objectives.contract import Objective
from ..objectives.margin_mse import MarginMse
from ..training.stage import Stage
from .models_part import TeacherPart
from .schema import DataPart, EvaluationPart
from .sides import Models, ModelSide
from .stage_part import AlignmentPart, StagePart
from .task_rows import SourceError, TaskRows, rows_of

NO_ROWS = "counts rows of a task, which this stage does not read; give tokens or max_steps"
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
    if models.teacher and is_multi_label(models.teacher.config):
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
    if problems:
        return FoundTask(models, None, problems, warnings)
    if wanted is None:  # objectives that need a head say so
        return FoundTask(models, rows, [], [])
    head = wanted
    if own and own.kind == wanted.kind and set(own.labels) == set(wanted.labels):
        head = own
    elif models.student.name and (said := _lost_head(own, models.student.config)):
        warnings.append(
            f"the head of {models.student.name!r} is {said}, and what is learned has"
            f" {listed(wanted.labels)}; the student gets a new one with random weights"
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
        return f"for {listed(own.labels)}"
    other = other_head(config)
    return f"of another kind ({other})" if other else None


def with_head(side: ModelSide, head: TaskHead | None) -> ModelSide:
    """A model with the head of a task."""
    if head is None:
        return side
    return replace(side, head=head, shape=replace(side.shape, labels=head.labels))


def _head_of_rows(rows: TaskRows) -> TaskHead | None:
    if rows.task is None or rows.kind is None:
        return None
    if rows.task.kind is TaskKind.REGRESSION:
        return TaskHead("sequence", (SCORE,))
    return TaskHead(rows.kind, rows.labels)


def _teacher_problems(theirs: TaskHead, rows: TaskRows) -> list[Problem]:
    """A head of another kind than the rows' labels, or other labels."""
    regression = rows.task is not None and rows.task.kind is TaskKind.REGRESSION
    if theirs.kind != rows.kind or theirs.scores != regression:
        wanted = TaskHead(rows.kind or "sequence", (SCORE,) if regression else ("", ""))
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
    if task.kind is TaskKind.REGRESSION and not theirs.scores:
        numbers = sorted({float(row.label or 0) for row in task.train})
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


def rows_of_stage(
    objectives: Mapping[str, Objective], rows: TaskRows | None, data: DataPart
) -> TaskRows | None:
    """The rows that a stage reads: where its objectives need the head, or there is no text."""
    needed = any(objective.student_needs().class_logits for objective in objectives.values())
    if rows is None or not (needed or not (data.text or data.prompts)):
        return None
    return rows.labelled if learns_labels_alone(objectives.values()) else rows


def learns_labels_alone(objectives: Iterable[Objective]) -> bool:
    """Whether a row without a label would teach nothing."""
    given = [*objectives]
    return bool(given) and all(
        isinstance(one, ClassLabels) and one.labels_from == "gold" for one in given
    )


def rows_problems(
    part: StagePart,
    number: int,
    objectives: Mapping[str, Objective],
    models: Models,
    *,
    rows: TaskRows | None,
) -> list[Problem]:
    """What has no place in a stage that reads rows of a task, or in one that does not."""
    place = f"stages.{number}"
    if rows is None:
        found = [(f"{place}.num_train_epochs", NO_ROWS)] if part.num_train_epochs else []
    else:
        message = "has no place in a stage that reads the rows of a task; leave it out"
        given = ("policy", "masking")
        found = [(f"{place}.{name}", message) for name in given if getattr(part, name) is not None]
        if part.alignment is not None and models.student.architecture.causal:
            found.append((f"{place}.alignment", f"of decoders {message}"))
        elif part.alignment not in (None, AlignmentPart()):
            message = "must be match, without options, in a stage that reads the rows of a task"
            found.append((f"{place}.alignment", message))
        if not (rows.train and rows.held_out):
            message = f"learns from labels alone, and of the rows with labels {len(rows.train)} are"
            message += f" left to learn from and {len(rows.held_out)} held out; give rows with"
            message += " labels (`data.task`), or hold more of them out (`data.held_out.fraction`)"
            found.append((f"{place}.objectives", message))
        if part.tokens is not None:
            message = "is for text; of rows give num_train_epochs, or max_steps"
            found.append((f"{place}.tokens", message))
    found += [
        (f"{place}.objectives.{name}", said)
        for name, objective in objectives.items()
        if isinstance(objective, MarginMse) and (said := _unpaired(rows))
    ]
    headless = [name for name, o in objectives.items() if o.student_needs().predictions]
    if models.student.head:
        message = (
            "needs a vocabulary head, and the student has the head of a task; train it in a recipe"
            " of its own before this one, and name its student (`student.model`)"
        )
        found += [(f"{place}.objectives.{name}", message) for name in headless]
    return found


def compares_pairs(objectives: Iterable[Objective]) -> bool:
    """Whether an objective compares two rows of one query, so that rows are read in such pairs."""
    return any(isinstance(objective, MarginMse) for objective in objectives)


def _unpaired(rows: TaskRows | None) -> str | None:
    """Why rows cannot be compared with others of their query; None where some can."""
    needed = "give rows in which a `text` (the query) has several `text_pair` (documents)"
    if rows is None:
        return f"compares rows of a task, which this stage does not read; {needed}"
    if any(row.words is not None or row.text_pair is None for row in rows.train):
        return f"compares documents of one query, and not all rows are pairs of texts; {needed}"
    if rows_alone(query_numbers([row.text for row in rows.train])) == len(rows.train):
        said = f"compares documents of one query, and each of {len(rows.train)} rows has its own"
        return f"{said}; {needed}"
    return None


def rows_warnings(rows: TaskRows | None, stages: Sequence[Stage]) -> list[str]:
    """Rows of which a step reads some several times, and rows that have no pair."""
    if rows is None:
        return []
    few = [
        f"stage {stage.name} reads {stage.batch_size} rows in a step, and there are"
        f" {len(rows.train)} to learn from"
        for stage in stages
        if stage.rows and stage.batch_size > len(rows.train)
    ]
    pairs = sum(row.text_pair is not None for row in rows.train)
    if rows.kind == "sequence" and 0 < pairs < len(rows.train):
        few.append(
            f"{pairs} of {len(rows.train)} rows are pairs of texts, and the others single texts; a"
            " model of one kind has not learned the other"
        )
    if not any(compares_pairs(stage.objectives.values()) for stage in stages):
        return few
    alone = rows_alone(query_numbers([row.text for row in rows.train]))
    said = (
        f"{alone} of {len(rows.train)} rows have a query (`text`) of which there is no other row;"
        " they are read, and `margin_mse` learns nothing of them"
    )
    return [*few, said] if alone else few
