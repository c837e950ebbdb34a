"""Rows that are held out of the training rows, always the same ones."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ..errors import DataError
from .leaks import hash_of
from .task_rows import numbers_hint
from .tasks import Example, labels_of


def hold_out(
    rows: Sequence[Example], fractions: Mapping[str, float], where: str
) -> dict[str, list[Example]]:
    """The rows of ``train`` and of every split that is a fraction of them, in their order.

    Which rows are held out depends on their texts alone, by a hash: not on a seed, and hardly on
    other rows. Rows of the same normalised text stay together, so that no scored row is learned
    from; and the last training row of a label or tag is never taken.

    Args:
        rows: All rows that could be learned from.
        fractions: Of every split, how much of them.
        where: What they are called in messages.

    Raises:
        DataError: A split gets no row, or no row is left to learn from.
    """
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(hash_of(row), []).append(number)
    left = Counter(value for row in rows for value in _values(row))
    ranked = iter(sorted(groups))
    taken: dict[int, str] = {}
    for split, fraction in fractions.items():
        missing = max(1, round(fraction * len(rows)))
        while missing > 0 and (name := next(ranked, None)) is not None:
            group = groups[name]
            values = Counter(value for number in group for value in _values(rows[number]))
            if all(left[value] > count for value, count in values.items()):
                left -= values
                taken |= dict.fromkeys(group, split)
                missing -= len(group)
    found: dict[str, list[Example]] = {split: [] for split in ("train", *fractions)}
    for number, row in enumerate(rows):
        found[taken.get(number, "train")].append(row)
    labels = {label for row in rows for label in labels_of(row)}
    if empty := [split for split, some in found.items() if not some]:
        raise DataError(
            f"{where} has {len(rows)} row(s), of which none is left for {' and '.join(empty)}; give"
            f" more rows of each label, or files for the splits{numbers_hint(labels)}"
        )
    return found


def _values(row: Example) -> set[str]:
    """The classes that the row is one of the examples of."""
    labels = {f"label {label}" for label in labels_of(row)}
    return labels | {f"tag {tag}" for tag in row.tags or ()}
