"""Trainable size adapters: they stand beside the student, and are never exported with it."""

from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

_RIDGE = 1e-4  # of the mean square of a coordinate


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
        self.sizes = dict(sizes)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.maps = nn.ModuleDict({name: _HeadwiseLinear(size) for name, size in sizes.items()})

    def forward(self, name: str, states: Tensor, *, trained: bool = True) -> Tensor:
        """The states at the teacher's width; unchanged where no map of that name is needed.

        Args:
            name: Of the map.
            states: The student's, (rows, width).
            trained: False gives the map itself no gradient.
        """
        if name not in self.maps:
            return states
        weight = self._map(name).weight
        return mapped_by_heads(states, weight if trained else weight.detach())

    @torch.no_grad()
    def begin(self, name: str, weight: Float[Tensor, "heads teacher_slice student_slice"]) -> None:
        """Give a map its first weights."""
        self._map(name).weight.copy_(weight)

    def _map(self, name: str) -> "_HeadwiseLinear":
        return cast(_HeadwiseLinear, self.maps[name])


class LeastSquares:
    """The map that carries some states nearest to their targets, from sums over rows.

    A little is added to the diagonal, so that few rows or idle coordinates leave it small.

    Args:
        size: Of the map.

    Attributes:
        rows: Added so far.
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
        """More rows, summed in double precision."""
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
        """The solution, as a map holds it."""
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
    """Each head's slice of the states by a map of its own."""
    heads, _, narrow = weight.shape
    if heads == 1:
        return states @ weight[0].mT
    cut = states.reshape(len(states), heads, narrow)
    return torch.einsum("rhn,hwn->rhw", cut, weight).flatten(1)
