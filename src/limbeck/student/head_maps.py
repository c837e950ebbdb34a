"""Which attention heads of a teacher a narrower student keeps.

Source: the slopes of ALiBi, Press et al. 2021, arXiv:2108.12409.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..models.architecture import Architecture
from ..models.shapes import Shape


def head_maps(
    scores: Float[Tensor, " heads"], architecture: Architecture, narrow: Shape, wide: Shape
) -> dict[str, Int[Tensor, " kept"]]:
    """The coordinates of queries, keys and values that are kept, by the role of an axis.

    Whole heads are kept, and as many in each kept group of heads that share their keys. Of a head
    that becomes narrower the first coordinates are kept.

    Args:
        scores: How much each query head matters; where all are equal, the first are kept.
        architecture: The family's row.
        narrow: Sizes of the student.
        wide: Sizes of the teacher.
    """
    groups_narrow = narrow.num_key_value_heads or narrow.num_attention_heads
    groups_wide = wide.num_key_value_heads or wide.num_attention_heads
    shared_narrow = narrow.num_attention_heads // groups_narrow
    shared_wide = wide.num_attention_heads // groups_wide
    by_group = scores.reshape(groups_wide, shared_wide)
    if architecture.positions == "alibi":
        groups, within = _by_slope(narrow, wide, (groups_narrow, groups_wide))
    else:
        groups = largest(by_group.sum(1), groups_narrow)
        within = [largest(by_group[group], shared_narrow) for group in groups]
    heads = torch.cat([g * shared_wide + w for g, w in zip(groups, within, strict=True)])
    keys = wide.num_attention_heads + groups
    slots = torch.cat([heads, keys, keys + groups_wide])
    if architecture.grouped:
        size = shared_wide + 2
        ends = torch.tensor([shared_wide, shared_wide + 1])
        slots = torch.cat(
            [g * size + torch.cat([w, ends]) for g, w in zip(groups, within, strict=True)]
        )
    widths = (
        narrow.query_width // narrow.num_attention_heads,
        wide.query_width // wide.num_attention_heads,
    )
    gates = torch.stack([2 * heads, 2 * heads + 1], 1).flatten()
    of_slots = {"heads": heads, "groups": groups, "qkv": slots, "gated_heads": gates}
    maps = {role: _coordinates(chosen, widths) for role, chosen in of_slots.items()}
    return {**maps, "head": heads}


def largest(values: Tensor, count: int) -> Tensor:
    """Indices of the largest values, ascending; the first indices where all values are equal."""
    return values.argsort(descending=True, stable=True)[:count].sort().values


def _coordinates(heads: Tensor, widths: tuple[int, int]) -> Tensor:
    """The first coordinates of the heads at these places."""
    return (heads[:, None] * widths[1] + torch.arange(widths[0])).flatten()


def _by_slope(narrow: Shape, wide: Shape, groups: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """The groups of heads, and the heads in each, whose distances count like the student's.

    With ALiBi a head's place decides how fast it forgets, so a head that is given another place
    does not do what it has learned.
    """
    slopes = [
        _alibi_slopes(shape.num_attention_heads).reshape(count, -1)
        for shape, count in zip((narrow, wide), groups, strict=True)
    ]
    chosen = _nearest(slopes[0].mean(1), slopes[1].mean(1))
    within = [
        _nearest(mine, slopes[1][group]) for mine, group in zip(slopes[0], chosen, strict=True)
    ]
    return chosen, within


def _alibi_slopes(heads: int) -> Float[Tensor, " heads"]:
    """The slopes' logarithms to the base of 2, in the order of the heads."""
    power = 2 ** int(math.log2(heads))
    first = -8.0 * torch.arange(1, power + 1) / power
    rest = -4.0 * (1 + 2 * torch.arange(heads - power)) / power
    return torch.cat([first, rest])


def _nearest(wanted: Tensor, values: Tensor) -> Tensor:
    """For each wanted value the place of the nearest one, each of which is taken once."""
    distances = (wanted[:, None] - values).abs()
    places = []
    for row in distances:
        places.append(int(row.argmin()))
        distances[:, places[-1]] = torch.inf
    return torch.tensor(places)
