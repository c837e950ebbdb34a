"""Notes on how rows were read: labels that are numbers may have been meant as classes."""

from ..data.rows import RowSource
from ..models.task_heads import listed
from .tasks import TASKS, Task, TaskKind, number_of, numbers_of

_BETWEEN_LABELS = (",", ";", "|", " ")


def scoring_notes(task: Task) -> list[str]:
    """What was decided while the rows were read; and that whole numbers are no classes.

    >>> from limbeck.evaluation.tasks import Example
    >>> rows = [Example(text="a", label=1.0), Example(text="b", label=0.0)]
    >>> task = Task("mine", TaskKind.REGRESSION, "spearman", None, rows, rows, "dev", (), ())
    >>> print(*scoring_notes(task))  # doctest: +ELLIPSIS
    mine: its labels are whole numbers (0, 1), so it is scored as regression ...
    """
    notes = [f"{task.name}: {note}" for note in task.notes]
    alike: dict[str, list[str]] = {}
    for label in task.labels:
        alike.setdefault(" ".join(label.casefold().split()), []).append(label)
    notes += [
        f"{task.name}: its labels {', '.join(map(repr, some))} differ in spaces or capitals alone"
        " and are several classes; write them alike if they are one"
        for some in alike.values()
        if len(some) > 1
    ]
    notes += _joined(task)
    columns = task.source.label_columns if isinstance(task.source, RowSource) else ()
    if never := [column for column in columns if column not in task.labels]:
        notes.append(
            f"{task.name}: no training row has the label {listed(never)}, of which a head that"
            " these rows alone teach has no output; give rows that have it, or leave out its column"
        )
    said = isinstance(task.source, RowSource) and task.source.problem_type is not None
    if task.kind is not TaskKind.REGRESSION or said or task.scored_as in TASKS:
        return notes  # the labels of a published regression task are numbers
    numbers = [number_of(row) for row in [*task.train, *task.test]]
    if not all(number.is_integer() for number in numbers):
        return notes
    least = min(numbers)
    how = f'write them as strings ("{least:.0f}") to make them classes'
    if task.source is not None:
        how = "say problem_type: classification to make them classes, or problem_type: regression"
    return [
        *notes,
        f"{task.name}: its labels are {numbers_of(task)}, so it is scored as regression"
        f" ({task.headline}); {how}",
    ]


def _joined(task: Task) -> list[str]:
    """A note on classes that are other classes, joined in one text."""
    if task.kind is not TaskKind.CLASSIFICATION:
        return []
    alone = set(task.labels)
    for between in _BETWEEN_LABELS:
        split = {one: one.split(between) for one in task.labels if between in one}
        joined = [one for one, parts in split.items() if alone.issuperset(map(str.strip, parts))]
        if joined:
            return [
                f"{task.name}: its labels {listed(joined)} are others joined by {between!r}, and"
                f' classes of their own; say label_separator: "{between}" where a text may have'
                " several labels"
            ]
    return []
