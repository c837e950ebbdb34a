"""Trainable size adapters: they stand beside the student, and are never exported with it."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class MapSize(NamedTuple):
    """Widths of a linear map; with several heads each slice of the vectors has a map of its own."""

    student: int
    teacher: int
    heads: int = 1


class Projections(nn.Module):
    """Linear maps without bias, by name, that carry student states to the teacher's width.

    Args:
        sizes: Of every map, by name.
        seed: Decides the first weights.
    """

    def __init__(self, sizes: dict[str, MapSize], *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.maps = nn.ModuleDict({name: _HeadwiseLinear(size) for name, size in sizes.items()})

    def forward(self, name: str, states: Tensor) -> Tensor:
        """The states at the teacher's width; unchanged where no map of that name is needed."""
        return self.maps[name](states) if name in self.maps else states


class _HeadwiseLinear(nn.Module):
    """A linear map of each head's slice."""

    weight: Float[nn.Parameter, "heads teacher_slice student_slice"]

    def __init__(self, size: MapSize) -> None:
        super().__init__()
        narrow, wide = size.student // size.heads, size.teacher // size.heads
        self.weight = nn.Parameter(torch.empty(size.heads, wide, narrow))
        bound = narrow**-0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, states: Float[Tensor, "rows student"]) -> Float[Tensor, "rows teacher"]:
        heads, _, narrow = self.weight.shape
        if heads == 1:
            return states @ self.weight[0].mT
        cut = states.reshape(len(states), heads, narrow)
        return torch.einsum("rhn,hwn->rhw", cut, self.weight).flatten(1)
