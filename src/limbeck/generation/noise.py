"""Chance that belongs to a place: the same row, position and token always get the same number.

Text is drawn by adding such noise to log-probabilities and taking the largest (Gumbel-max). What
a row draws then depends neither on the rows beside it nor on how its writing is cut into
blocks, and two models that nearly agree draw nearly always the same token.

Source: Maddison, Tarlow, Minka 2014, A* sampling, arXiv:1411.0030; the mixing of bits is the
finaliser of MurmurHash3 (Appleby).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_SPREAD = 0x9E3779B9 - 2**32  # 2^32 over the golden ratio: near numbers become far ones
_FIRST, _SECOND = 0x85EBCA6B - 2**32, 0xC2B2AE35 - 2**32
_BITS = 23  # as many as a float32 keeps apart near 1


def gumbel_noise(
    keys: Int[Tensor, " rows"], positions: Int[Tensor, " rows"], tokens: int
) -> Float[Tensor, "rows vocabulary"]:
    """Independent draws from the standard Gumbel distribution.

    Args:
        keys: Of each row, 32 bits: what tells it from the others, the seed included.
        positions: Where in its text each row stands.
        tokens: Draws for each row.

    >>> rows, places = torch.tensor([1, 2, 1]), torch.tensor([5, 5, 5])
    >>> found = gumbel_noise(rows, places, 1000)
    >>> bool((found[0] == found[2]).all()), bool((found[0] == found[1]).any())
    (True, False)
    """
    here = _mixed(_mixed(keys.int()) + positions.int() * _SPREAD)
    numbers = torch.arange(1, tokens + 1, dtype=torch.int32, device=keys.device) * _SPREAD
    bits = _mixed(here[:, None] + numbers) & (2**_BITS - 1)
    uniform = (bits.float() + 0.5) / 2**_BITS
    return -torch.log(-torch.log(uniform))


def row_keys(
    seed: int, rows: Int[Tensor, " rows"], *, second: bool = False
) -> Int[Tensor, " rows"]:
    """A key for each row of a seed.

    Args:
        seed: Of 31 bits; larger ones wrap around.
        rows: Numbers of the rows.
        second: Another draw for the same rows and positions, independent of the first.
    """
    # The bit that no seed has tells the two draws apart.
    start = torch.tensor(seed % 2**31 - second * 2**31, dtype=torch.int32, device=rows.device)
    return _mixed(_mixed(start) + rows.int() * _SPREAD)


def _mixed(bits: Tensor) -> Tensor:
    """Every bit of the result hangs on every bit given; 32 bits that overflow are meant."""
    bits = (bits ^ ((bits >> 16) & 0xFFFF)) * _FIRST
    bits = (bits ^ ((bits >> 13) & 0x7FFFF)) * _SECOND
    return bits ^ ((bits >> 16) & 0xFFFF)
