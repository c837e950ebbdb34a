"""Rows in pairs of one query, in a random order that resumes at any place.

In one pass every row of a query is in a pair with another row of that query; where their number is
odd, one of them is in two pairs. Rows whose query has no other row are read too, beside one
another.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from ..errors import DataError

_Numbers = Int64[ndarray, " rows"]


def query_numbers(queries: Sequence[Hashable]) -> _Numbers:
    """The number of each row's query, in the order in which queries first occur.

    >>> query_numbers(["x", "y", "x"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(query, len(numbers)) for query in queries], np.int64)


def rows_alone(numbers: _Numbers) -> int:
    """How many rows have a query of which there is no other row.

    Args:
        numbers: Of `query_numbers`.
    """
    return int((np.bincount(numbers) == 1).sum())


def pairs_first(numbers: _Numbers) -> _Numbers:
    """All rows once: pairs of one query first, then the rows that are left over.

    Args:
        numbers: Of `query_numbers`.

    Returns:
        Row numbers; those at 2k and 2k+1 are of one query, as long as there are pairs.

    >>> pairs_first(query_numbers(["x", "y", "x", "z", "y", "x"])).tolist()
    [0, 2, 1, 4, 5, 3]
    """
    order, place, size = _by_query(numbers, np.arange(len(numbers)))
    paired = place < size - size % 2
    return np.concatenate([order[paired], order[~paired]])


def _by_query(numbers: _Numbers, order: _Numbers) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Rows by their queries; of each its place among the rows of its query, and their number.

    Args:
        numbers: Of all rows.
        order: In which the rows of each query stand.
    """
    order = order[np.argsort(numbers[order], kind="stable")]
    sizes = np.bincount(numbers)
    size = sizes[numbers[order]]
    begins = (np.cumsum(sizes) - sizes)[numbers[order]]
    return order, np.arange(len(order)) - begins, size


@dataclass(frozen=True)
class QueryPairs:
    """An endless stream of pairs of rows.

    Attributes:
        numbers: Of `query_numbers`.
        seed: Of every pass.

    Raises:
        DataError: No query has two rows.
    """

    numbers: _Numbers
    seed: int
    _passes: dict[int, Int64[ndarray, "pairs 2"]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if rows_alone(self.numbers) == len(self.numbers):
            raise DataError(
                f"no query of {len(self.numbers)} rows has two of them, so there is nothing to"
                " compare; give rows in which a text has several text_pair"
            )

    @cached_property
    def in_a_pass(self) -> int:
        """How many pairs there are until every row was read."""
        sizes = np.bincount(self.numbers)
        alone = int((sizes == 1).sum())
        return int(((sizes + 1) // 2)[sizes > 1].sum()) + -(-alone // 2)

    def pairs(self, position: int, count: int) -> Int64[ndarray, "count 2"]:
        """The row numbers of ``count`` pairs, starting at a position in the stream."""
        passes, places = np.divmod(np.arange(position, position + count), self.in_a_pass)
        found = np.empty((count, 2), np.int64)
        for number in np.unique(passes).tolist():
            here = passes == number
            found[here] = self._pass(number)[places[here]]
        return found

    def _pass(self, number: int) -> Int64[ndarray, "pairs 2"]:
        """The pairs of a pass; the last one used is kept."""
        found = self._passes.get(number)
        if found is None:
            found = self._made(number)
            self._passes.clear()
            self._passes[number] = found
        return found

    def _made(self, number: int) -> Int64[ndarray, "pairs 2"]:
        chance = np.random.default_rng((self.seed, number))
        order, place, size = _by_query(self.numbers, chance.permutation(len(self.numbers)))
        several = size > 1
        first = np.flatnonzero(several & (place % 2 == 0))
        # A row that is left over comes with the first of its query.
        left_over = place[first] == size[first] - 1
        second = np.where(left_over, first - place[first], first + 1)
        alone = chance.permutation(order[~several])
        if len(alone) % 2:
            alone = np.append(alone, order[first[0]] if len(alone) == 1 else alone[0])
        pairs = np.concatenate([np.stack([order[first], order[second]], 1), alone.reshape(-1, 2)])
        return np.array(chance.permutation(pairs))
