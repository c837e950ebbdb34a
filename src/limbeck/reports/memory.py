"""The memory of a training as a table: what it holds, in megabytes."""

from collections.abc import Mapping, Sequence

from .tables import Table

PARTS = {
    "before": "before the models",
    "student": "student",
    "teacher": "teacher",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "caches": "caches of generation",
    "rest": "activations and the rest",
}


def with_rest(
    held: Mapping[str, int], before: int | None, peak: int | None
) -> dict[str, int | None]:
    """All parts of a peak: what is held, what was held before, and the rest.

    Args:
        held: Bytes of weights, gradients, states and caches.
        before: Bytes of the process before its models: libraries and text.
        peak: Bytes at the peak.
    """
    rest = None
    if before is not None and peak is not None:
        rest = max(0, peak - before - sum(held.values()))
    return {"before": before, **held, "rest": rest}


def memory_table(stages: Sequence[tuple[str, Mapping[str, int | None]]]) -> Table:
    """A row for each stage, a column for each part, and their sum.

    Args:
        stages: Names, and bytes by the names of `PARTS`; None where the system does not tell.

    >>> memory_table([("first", {"before": None, "student": 10_000_000, "teacher": 0})])
    [['stage', 'student, MB', 'teacher, MB', 'in all, MB'], ['first', '10.0', '0.0', '10.0']]
    """
    told = [name for name in PARTS if any(parts.get(name) is not None for _, parts in stages)]
    rows = []
    for stage, parts in stages:
        sizes = [parts.get(name) for name in told]
        total = sum(size or 0 for size in sizes)
        rows.append([stage, *("" if s is None else f"{s / 1e6:,.1f}" for s in [*sizes, total])])
    return [["stage", *(f"{PARTS[name]}, MB" for name in told), "in all, MB"], *rows]
