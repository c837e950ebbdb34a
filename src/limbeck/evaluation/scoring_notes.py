"""A note on tasks whose labels are numbers and may have been meant as classes."""

from .tasks import TASKS, Task, TaskKind, numbers_of


def scoring_notes(task: Task) -> list[str]:
    """A note that whole numbers are scored as regression and not as classes, or nothing.

    >>> from limbeck.evaluation.tasks import Example
    >>> rows = [Example(text="a", label=1.0), Example(text="b", label=0.0)]
    >>> task = Task("mine", TaskKind.REGRESSION, "spearman", None, rows, rows, "dev", (), ())
    >>> print(*scoring_notes(task))  # doctest: +ELLIPSIS
    mine: its labels are whole numbers (0, 1), so it is scored as regression ...
    """
    if task.kind is not TaskKind.REGRESSION or task.scored_as in TASKS:
        return []  # the labels of a published regression task are numbers
    if not all(float(row.label or 0).is_integer() for row in [*task.train, *task.test]):
        return []
    least = min(float(row.label or 0) for row in [*task.train, *task.test])
    return [
        f"{task.name}: its labels are {numbers_of(task)}, so it is scored as regression"
        f' ({task.headline}); write them as strings ("{least:.0f}") to make them classes'
    ]
