"""Tasks scored with the head that a model has: nothing is fine-tuned."""

import time
from collections.abc import Sequence

from ..data.prompt_sources import TaskLocation
from ..errors import EvaluationError
from ..evaluation.seeds import TaskScore
from ..evaluation.tag_schemes import task_in_scheme_of
from ..evaluation.task_files import load_task
from ..evaluation.tasks import Task, TaskKind
from ..models.task_heads import TaskHead, label_problem
from ..recipe.row_forms import one_or_several, task_of_kind
from .evaluate import task_notes
from .task_answers import answers_of, columns_of, score_of_task, scored, task_side, with_labels_of


def own_head_scores(
    model: str, locations: Sequence[TaskLocation], *, split: str | None, max_length: int
) -> dict[str, TaskScore]:
    """The scores of a model on tasks with the head that it has: nothing is fine-tuned.

    Args:
        model: A folder or hub name.
        locations: Of the tasks.
        split: That is scored; by default dev, else test.
        max_length: Tokens of a row at most.

    Raises:
        EvaluationError: It has no head, or one of another kind or of other labels.
    """
    side, found = task_side(model), dict[str, TaskScore]()
    head = side.head
    if head is None:
        return {}
    # All first, so that what does not suit the head is refused before anything takes long.
    for task in [task_of_head(head, location, model, split=split) for location in locations]:
        began = time.perf_counter()
        answers = answers_of(side, task.test, columns_of(head, task), max_length=max_length)
        score = scored(answers, task, seed=0, began=began)
        found[task.name] = score_of_task(task, score, training_rows=0)
    return found


def own_head_notes(model: str, tasks: Sequence[Task], *, max_length: int) -> list[str]:
    """What a reader must know of labels, and of texts that the model cannot read exactly.

    Args:
        model: A folder or hub name.
        tasks: That it is scored on with the head that it has.
        max_length: Tokens of a row at most, of as many as it can read.

    Raises:
        EvaluationError: It has no head.
    """
    side = task_side(model)
    read = [task_of_kind(task, side.head.kind if side.head else None) for task in tasks]
    return task_notes(model, side.tokenizer, read, max_length=max_length)


def task_of_head(
    head: TaskHead, location: TaskLocation, model: str, *, split: str | None = None
) -> Task:
    """The rows of a task that a head was trained on, with its labels and in its scheme of tags.

    Args:
        head: Of the model.
        location: Of the task.
        model: Its name, for messages.
        split: That is scored; by default dev, else test.

    Raises:
        EvaluationError: The task is of another kind, or has other labels.
    """
    task = task_of_kind(load_task(location, test_split=split), head.kind)
    if task.kind is not _kind_of(head):
        raise EvaluationError(
            f"{model!r} has {head.about}, and {task.name} is a task of the kind"
            f" {task.kind.value}; fine-tune a new head (`limbeck evaluate` without --own-head), or"
            f" name a task that its head was trained on{one_or_several(head, task)}"
        )
    task = task_in_scheme_of(head.labels, task)
    given = task.labels if head.kind == "sequence" else task.tags
    how = "give the task as {path: ..., labels: {0: NAME, ...}}, with the names that the head has"
    if problem := label_problem(given, head.labels, repr(model), how=how):
        raise EvaluationError(f"{task.name}: {problem}")
    return with_labels_of(head, task)


def _kind_of(head: TaskHead) -> TaskKind:
    """The kind of tasks that a head is for."""
    if head.kind == "token":
        return TaskKind.TAGGING
    if head.multi_label:
        return TaskKind.MULTI_LABEL
    return TaskKind.REGRESSION if head.scores else TaskKind.CLASSIFICATION
