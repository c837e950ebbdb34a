"""Chance that belongs to a place: the same row, position and token always get the same number.

A token is drawn by adding such noise to log-probabilities and taking the largest (Gumbel-max).
What a row draws then depends neither on the rows beside it nor on how long the drafts are, and two
models that nearly agree nearly always draw the same token.

Source: Maddison, Tarlow, Minka 2014, A* sampling, arXiv:1411.0030; the mixing of bits is the
finaliser of MurmurHash3 (Appleby).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..token_ids import TokenIds

_GOLDEN = 0x9E3779B9 - 2**32  # 2^32 over the golden ratio: near numbers become far ones
_FIRST, _SECOND = 0x85EBCA6B - 2**32, 0xC2B2AE35 - 2**32
_AT_ONCE = 2**17  # numbers
_BITS = 23  # as many as a float32 keeps apart near 1


def gumbel_noise(
    keys: Int[Tensor, " rows"], positions: Int[Tensor, " rows"], tokens: int
) -> Float[Tensor, "rows vocabulary"]:
    """Independent draws from the standard Gumbel distribution.

    Args:
        keys: Of each row, 32 bits: what distinguishes it from the others, the seed included.
        positions: Where in its text each row stands.
        tokens: Draws for each row.

    >>> rows, places = torch.tensor([1, 2, 1]), torch.tensor([5, 5, 5])
    >>> found = gumbel_noise(rows, places, 1000)
    >>> bool((found[0] == found[2]).all()), bool((found[0] == found[1]).any())
    (True, False)
    """
    here = _mixed(_mixed(keys.int()) + positions.int() * _GOLDEN)
    numbers = torch.arange(1, tokens + 1, dtype=torch.int32, device=keys.device) * _GOLDEN
    noise = torch.empty(len(here), tokens, device=keys.device)
    # A processor computes what fits into its cache several times as fast.
    some = max(1, _AT_ONCE // tokens) if keys.device.type == "cpu" else max(1, len(here))
    for begin in range(0, len(here), some):
        bits = _mixed(here[begin : begin + some, None] + numbers).bitwise_and_(2**_BITS - 1)
        uniform = noise[begin : begin + some]
        torch.add(bits, 0.5, out=uniform).div_(2**_BITS)
        uniform.log_().neg_().log_().neg_()
    return noise


def row_keys(
    seed: int, rows: Int[Tensor, " rows"], *, second: bool = False
) -> Int[Tensor, " rows"]:
    """A key for each row of a seed.

    Args:
        seed: Of 31 bits; larger ones wrap around.
        rows: Numbers of the rows.
        second: Another draw for the same rows and positions, independent of the first.
    """
    # The bit that no seed has distinguishes the two draws.
    start = torch.tensor(seed % 2**31 - second * 2**31, dtype=torch.int32, device=rows.device)
    return _mixed(_mixed(start) + rows.int() * _GOLDEN)


def _mixed(bits: Tensor) -> Tensor:
    """Bits of which each depends on every bit given; the overflow of 32 bits is intended."""
    bits = bits.clone()
    for shift, factor in ((16, _FIRST), (13, _SECOND), (16, 1)):
        above = (bits >> shift).bitwise_and_((1 << (32 - shift)) - 1)  # without copies of the sign
        bits.bitwise_xor_(above).mul_(factor)
    return bits


class TokenDraws:
    """Tokens drawn from log-probabilities with the noise of their row and place.

    Args:
        rows: Numbers of the rows.
        seed: Decides the noise, with the number of each row.
        temperature: Log-probabilities are divided by it; 0 takes the most likely token.
        vocabulary: The ids that the tokenizer has; no other is drawn.
        independent: Whether the teacher draws with noise of its own, and not with the student's.
    """

    def __init__(
        self,
        rows: Int[Tensor, " rows"],
        *,
        seed: int,
        temperature: float,
        vocabulary: TokenIds,
        independent: bool,
    ) -> None:
        self._student_keys = row_keys(seed, rows)
        self._teacher_keys = row_keys(seed, rows, second=independent)
        self._temperature = temperature
        self._ids = vocabulary.end
        self._absent = torch.tensor(vocabulary.absent, dtype=torch.long, device=rows.device)

    def student_noise(
        self, rows: Int[Tensor, " open"], places: Int[Tensor, "open draft"]
    ) -> Float[Tensor, "open draft vocabulary"] | None:
        """What the student draws with in some rows; None at temperature 0."""
        return self._noise(self._student_keys[rows], places)

    def teacher_noise(
        self, rows: Int[Tensor, " open"], places: Int[Tensor, "open draft"]
    ) -> Float[Tensor, "open draft vocabulary"] | None:
        """What the teacher draws with in some rows; None at temperature 0."""
        return self._noise(self._teacher_keys[rows], places)

    def draw(
        self, logs: Float[Tensor, "*places vocabulary"], noise: Tensor | None
    ) -> Int[Tensor, "*places"]:
        """A token for each place."""
        if noise is None:
            return logs.argmax(-1)
        scores = (logs / self._temperature).add_(noise)
        if len(self._absent):
            # After the division: a high temperature brings absent ids near to the tokens.
            scores.index_fill_(-1, self._absent, -math.inf)
        return scores.argmax(-1)

    def _noise(self, keys: Tensor, places: Tensor) -> Tensor | None:
        if self._temperature == 0:
            return None
        rows, draft = places.shape
        noise = gumbel_noise(keys.repeat_interleave(draft), places.reshape(-1), self._ids)
        return noise.view(rows, draft, self._ids)
