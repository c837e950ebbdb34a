"""Training rows set apart to choose by; the scored rows are never among them."""

from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import replace

import numpy as np

from ...data.query_pairs import query_numbers
from ...errors import EvaluationError
from ..rankings import OF_QUERIES, ranked_queries
from ..tasks import METRICS, Example, Task, TaskKind, labels_of

# Fewer rows than the first say too little about a rate, more than the last only take time.
LEAST_ROWS, MOST_ROWS = 100, 2000
_MOST_FRACTION = 0.25  # of the training rows, where these are few


def with_validation(task: Task, *, fraction: float, seed: int) -> Task:
    """The task with a part of its training rows in place of its test rows.

    The part is stratified by label, for tags and several labels by the rarest of a row; of rankings
    it has whole queries. Every label with several rows stands in it as far as there is room, and
    every label keeps a row to be learned from.

    Args:
        task: Its test rows are left out.
        fraction: Of the training rows, but at least `LEAST_ROWS` of them where that is no more
            than a quarter, and at most `MOST_ROWS`.
        seed: Decides which.

    Raises:
        EvaluationError: There are fewer than two rows, or only rows whose label occurs once.
    """
    rows = task.train
    wanted = min(max(round(fraction * len(rows)), LEAST_ROWS), MOST_ROWS)
    wanted = min(wanted, max(round(fraction * len(rows)), int(_MOST_FRACTION * len(rows)), 1))
    ranked = task.headline in OF_QUERIES
    chosen = set(
        _of_whole_queries(task, wanted, seed) if ranked else _stratified(task, wanted, seed)
    )
    if not chosen:
        raise EvaluationError(
            f"{task.name} has {len(rows)} training rows, of which none can be set apart to choose"
            " a learning rate by: every label needs a row to be learned from and another one; give"
            " more rows, or leave the search out"
        )
    held = replace(
        task,
        train=[row for number, row in enumerate(rows) if number not in chosen],
        test=[row for number, row in enumerate(rows) if number in chosen],
        test_split="validation",
    )
    if ranked and not ranked_queries(held.relevances, held.queries):
        return replace(held, headline=METRICS[task.kind][0])
    return held


def _of_whole_queries(task: Task, wanted: int, seed: int) -> list[int]:
    """Numbers of rows, all of a query or none, about as many as are wanted."""
    numbers = query_numbers([row.text for row in task.train])
    found: list[int] = []
    for query in np.random.default_rng(seed).permutation(numbers.max() + 1)[:-1]:
        if len(found) >= wanted:
            break
        found += np.flatnonzero(numbers == query).tolist()
    return found


def _stratified(task: Task, wanted: int, seed: int) -> list[int]:
    """Numbers of rows in proportion to their groups, the first of each group before any second."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    of_row = _groups(task)
    for number in np.random.default_rng(seed).permutation(len(of_row)).tolist():
        groups[of_row[number]].append(number)
    # The last row of a group is never taken; the one at 0 comes before every other.
    ranked = [
        (place / len(numbers), number)
        for numbers in groups.values()
        for place, number in enumerate(numbers[:-1])
    ]
    return [number for _, number in sorted(ranked, key=lambda pair: pair[0])[:wanted]]


def _groups(task: Task) -> list[Hashable]:
    if task.kind in (TaskKind.CLASSIFICATION, TaskKind.JOINT):
        return [row.label for row in task.train]
    if task.kind not in (TaskKind.TAGGING, TaskKind.MULTI_LABEL):
        return [None] * len(task.train)
    common = Counter(name for row in task.train for name in _names(row))
    return [min(_names(row), key=lambda name: (common[name], name)) for row in task.train]


def _names(row: Example) -> tuple[str, ...]:
    """The tags of a row, or its labels; one name for rows without any."""
    return row.tags or labels_of(row) or ("",)
