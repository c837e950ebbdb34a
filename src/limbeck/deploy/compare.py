"""How far a file's output is from that of the float32 model in torch, on the same texts."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from ..evaluation.examples import Reading
from .arrays import Forward
from .batches import outputs_of
from .results import Difference
from .source import Source

_AT_ONCE = 16
_ALONE = 32  # texts that are run alone, too
# Numbers of an output at once (a quarter of a gigabyte): a vocabulary at every token is many, and
# engines hold them more than once.
_MOST_NUMBERS = 2**26


def difference_of(source: Source, forward: Forward, readings: Sequence[Reading]) -> Difference:
    """The difference of a file to its model in torch, and of texts alone to those in a batch.

    Args:
        source: The model in torch.
        forward: The file.
        readings: Of real texts.
    """
    sums, size = _Sums(source), _rows_at_once(source, readings)
    for start in range(0, len(readings), size):
        some = readings[start : start + size]
        expected = outputs_of(source, source.reader, some, size=size)
        for reading, one, other in zip(
            some, expected, outputs_of(forward, source.reader, some, size=size), strict=True
        ):
            if source.kind == "token" and reading.words:
                begins = np.array(reading.begins) >= 0
                one, other = one[begins], other[begins]
            sums.add(np.atleast_2d(one), np.atleast_2d(other))
            if source.kind == "causal":
                sums.add_bits(reading.ids, one, other)
    return sums.difference(_alone(source, forward, readings[:_ALONE]))


def _rows_at_once(source: Source, readings: Sequence[Reading]) -> int:
    if source.kind not in ("masked", "causal"):
        return _AT_ONCE
    longest = max(len(one.ids) for one in readings)
    return max(1, min(_AT_ONCE, _MOST_NUMBERS // (longest * source.vocabulary)))


def _alone(source: Source, forward: Forward, readings: Sequence[Reading]) -> float:
    """The largest difference between texts that are run alone and in one batch."""
    if source.kind in ("masked", "causal"):
        readings = readings[: max(2, _rows_at_once(source, readings))]
    each = outputs_of(forward, source.reader, readings, size=1)
    together = outputs_of(forward, source.reader, readings, size=len(readings))
    return max(float(np.abs(a - b).max()) for a, b in zip(each, together, strict=True))


class _Sums:
    """What is added up over texts."""

    def __init__(self, source: Source) -> None:
        self._labels = source.head.labels if source.head and not source.head.scores else ()
        self._numbers = bool(source.head and source.head.scores)
        self._multi_label = bool(source.head and source.head.multi_label)
        self._vectors = source.kind in ("vectors", "body")
        self._largest, self._total, self._values = 0.0, 0.0, 0
        self._same, self._cosines, self._rows = 0, 0.0, 0
        self._flips: Counter[str] = Counter()
        self._both: list[tuple[float, float]] = []
        self._bits, self._predicted = np.zeros(2), 0

    def add(self, one: ndarray, other: ndarray) -> None:
        """Outputs [rows, width] of torch and of the file."""
        apart = np.abs(one - other)
        apart[np.isnan(apart)] = np.inf  # what is not a number is infinitely far
        self._largest = max(self._largest, float(apart.max(initial=0.0)))
        self._total += float(apart.sum(dtype=float))
        self._values += apart.size
        self._rows += len(one)
        if self._vectors:
            finite = np.isfinite(other).all(1)  # the cosine of other rows counts as 0
            one, other = one[finite], other[finite]
            lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            self._cosines += float(((one * other).sum(1) / np.maximum(lengths, 1e-12)).sum())
        elif self._numbers:
            self._both += zip(one[:, 0].tolist(), other[:, 0].tolist(), strict=True)
        elif self._multi_label:
            apart = (one > 0) != (other > 0)
            self._same += int((~apart.any(1)).sum())
            self._flips.update(self._labels[place] for place in np.nonzero(apart)[1])
        else:
            best = one.argmax(1)
            same = best == other.argmax(1)
            self._same += int(same.sum())
            if self._labels:
                self._flips.update(self._labels[place] for place in best[~same])

    def add_bits(self, ids: Sequence[int], one: ndarray, other: ndarray) -> None:
        """Logits [tokens, vocabulary] of torch and of the file, which predict the next ids."""
        place = np.arange(len(ids) - 1), np.array(ids[1:], int)
        for side, logits in enumerate((one, other)):
            before = torch.from_numpy(logits[: len(ids) - 1])
            nats = before.logsumexp(1) - before[place]  # on all cores, as numpy would not
            self._bits[side] += float(nats.double().sum()) / np.log(2)
        self._predicted += len(ids) - 1

    def difference(self, alone: float) -> Difference:
        """All of it."""
        of_classes = not (self._vectors or self._numbers)
        return Difference(
            largest=self._largest,
            mean=self._total / max(1, self._values),
            agreement=self._same / max(1, self._rows) if of_classes else None,
            cosine=self._cosines / max(1, self._rows) if self._vectors else None,
            flips=dict(self._flips.most_common()),
            alone=alone,
            bits=self._mean_bits(),
            r_squared=_r_squared(np.array(self._both)) if self._numbers else None,
        )

    def _mean_bits(self) -> tuple[float, float] | None:
        if not self._predicted:
            return None
        exact, found = (float(bits) / self._predicted for bits in self._bits)
        return exact, found


def _r_squared(both: Float[ndarray, "texts 2"]) -> float:
    """How much of the first column's variance the second explains as it is, without a fit.

    Of a constant column 1 where both are equal, else 0.
    """
    expected, found = both.T
    variance = expected.var()
    if variance == 0:
        return float(np.allclose(expected, found))
    return float(1 - ((expected - found) ** 2).mean() / variance)
