"""Rows of different lengths as one table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped


def padded(rows: Sequence[Any], fill: int, dtype: type[np.generic]) -> Shaped[np.ndarray, "_ _"]:
    """Rows of different lengths as one table, padded at their ends.

    >>> padded([[1, 2], [3]], 0, np.int64).tolist()
    [[1, 2], [3, 0]]
    """
    table = np.full((len(rows), max(len(row) for row in rows)), fill, dtype=dtype)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def real_tokens(rows: Sequence[Any]) -> Bool[np.ndarray, "_ _"]:
    """True at every token of rows, and False where `padded` fills them up.

    >>> real_tokens([[1, 2], [3]]).tolist()
    [[True, True], [True, False]]
    """
    return padded([np.ones(len(row)) for row in rows], False, np.bool_)
