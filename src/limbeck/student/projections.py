"""Trainable maps to the teacher's width, which are never exported with the student."""

from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

_RIDGE = 1e-4  # of the mean square of a coordinate


class MapSize(NamedTuple):
    """Widths of a linear map; with several heads each slice of the vectors has its own map."""

    student: int
    teacher: int
    heads: int = 1


class Projections(nn.Module):
    """Linear maps without bias, by name, from student states to the teacher's width.

    Args:
        sizes: The sizes of every map, by name.
        seed: Decides the initialization.
    """

    def __init__(self, sizes: dict[str, MapSize], *, seed: int) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.maps = nn.ModuleDict({name: _HeadwiseLinear(size) for name, size in sizes.items()})

    def forward(self, name: str, states: Tensor, *, trained: bool = True) -> Tensor:
        """The states at the teacher's width; unchanged where no map of that name is needed.

        Args:
            name: Name of the map.
            states: The student's states, (rows, width).
            trained: Whether the map gets a gradient.
        """
        if name not in self.maps:
            return states
        weight = self._map(name).weight
        if not torch.is_autocast_enabled(states.device.type):
            states = states.to(weight.dtype)  # of a model that is in bfloat16 as a whole
        return mapped_by_heads(states, weight if trained else weight.detach())

    @torch.no_grad()
    def initialize(
        self, name: str, weight: Float[Tensor, "heads teacher_slice student_slice"]
    ) -> None:
        """Set the weights of a map."""
        self._map(name).weight.copy_(weight)

    def _map(self, name: str) -> "_HeadwiseLinear":
        return cast(_HeadwiseLinear, self.maps[name])


class LeastSquares:
    """The least-squares map from states to targets, from sums over rows.

    A small ridge is added to the diagonal, so that the map stays small where there are few rows or
    unused coordinates.

    Args:
        size: Sizes of the map.

    Attributes:
        rows: Number of rows added so far.
    """

    def __init__(self, size: MapSize) -> None:
        self._size, self.rows = size, 0
        narrow, wide = size.student // size.heads, size.teacher // size.heads
        self._moments = torch.zeros(size.heads, narrow, narrow, dtype=torch.float64)
        self._meetings = torch.zeros(size.heads, narrow, wide, dtype=torch.float64)

    def add(
        self,
        states: Float[Tensor, "rows student"],
        targets: Float[Tensor, "rows teacher"],
    ) -> None:
        """Add rows, summed in double precision."""
        self.rows += len(states)
        heads = self._size.heads
        mine, theirs = (
            found.cpu()
            .double()
            .reshape(len(found), heads, found.shape[-1] // heads)
            .transpose(0, 1)
            for found in (states, targets)
        )
        self._moments += mine.mT @ mine
        self._meetings += mine.mT @ theirs

    def weight(self) -> Float[Tensor, "heads teacher_slice student_slice"]:
        """The solution, in the shape of a map's weight."""
        diagonal = self._moments.diagonal(dim1=-2, dim2=-1)
        little = (_RIDGE * diagonal.mean(-1)).clamp_min(torch.finfo(torch.float32).tiny)
        ridge = torch.diag_embed(little[:, None].expand_as(diagonal))
        found: Tensor = torch.linalg.solve(self._moments + ridge, self._meetings)
        return found.mT.float()


class _HeadwiseLinear(nn.Module):
    """A linear map of each head's slice."""

    weight: Float[nn.Parameter, "heads teacher_slice student_slice"]

    def __init__(self, size: MapSize) -> None:
        super().__init__()
        narrow, wide = size.student // size.heads, size.teacher // size.heads
        self.weight = nn.Parameter(torch.empty(size.heads, wide, narrow))
        bound = narrow**-0.5
        nn.init.uniform_(self.weight, -bound, bound)


def mapped_by_heads(
    states: Float[Tensor, "rows student"],
    weight: Float[Tensor, "heads teacher_slice student_slice"],
) -> Float[Tensor, "rows teacher"]:
    """Each head's slice of the states, mapped by the head's own matrix."""
    heads, _, narrow = weight.shape
    if heads == 1:
        return states @ weight[0].mT
    slices = states.reshape(len(states), heads, narrow)
    return torch.einsum("rhn,hwn->rhw", slices, weight).flatten(1)
