"""What a task is scored as, where its rows might have meant something else."""

from .tasks import Task, TaskKind

_NAMED = 6  # labels


def scoring_notes(task: Task) -> list[str]:
    """That numbers which could be classes are not, or nothing.

    >>> from limbeck.evaluation.tasks import Example
    >>> rows = [Example(text="a", label=1.0), Example(text="b", label=0.0)]
    >>> task = Task("mine", TaskKind.REGRESSION, "spearman", None, rows, rows, "dev", (), ())
    >>> print(*scoring_notes(task))  # doctest: +ELLIPSIS
    mine: its labels are whole numbers (0, 1), so it is scored as regression ...
    """
    if task.kind is not TaskKind.REGRESSION:
        return []
    labels = sorted({float(row.label or 0) for row in [*task.train, *task.test]})
    if not all(label.is_integer() for label in labels):
        return []
    named = ", ".join(f"{label:.0f}" for label in labels[:_NAMED])
    more = ", ..." if len(labels) > _NAMED else ""
    return [
        f"{task.name}: its labels are whole numbers ({named}{more}), so it is scored as regression"
        f' ({task.headline}); write them as strings ("{labels[0]:.0f}") to make them classes'
    ]
