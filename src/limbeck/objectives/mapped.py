"""Objectives that compare the student's vectors with the teacher's after a learned map.

Such an objective says which rows are compared with which; the distance, and the least-squares
initialization of the maps, follow from that.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from ..activations import Activations, float32_region
from ..batch import Batch, Tokens
from ..student.projections import MapSize, Projections
from .contract import Objective
from .options import Measure


class Compared(NamedTuple):
    """Rows of both models, and the name of the map from the student's rows to the teacher's."""

    map: str
    state: Float[Tensor, "rows student_width"]
    target: Float[Tensor, "rows teacher_width"]


class MappedObjective(Objective):
    """An objective over vectors; where widths differ, a learned map makes them comparable.

    Attributes:
        measure: ``mse``, or ``cosine`` for one minus the cosine.
    """

    measure: Measure

    @abstractmethod
    def compared(
        self, student: Activations, teacher: Activations, batch: Batch
    ) -> Iterator[Compared]:
        """Everything that is compared, at real tokens only."""
        ...

    def trains(self, name: str) -> bool:
        """Whether the map of that name is trained; if not, it keeps its random initialization."""
        return True

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Squared difference per coordinate, or one minus the cosine, summed over all rows."""
        total = torch.zeros((), device=batch.student.mask.device)
        for name, state, target in self.compared(student, teacher, batch):
            mapped = projections(name, state, trained=self.trains(name))
            total = total + distance(mapped, target, self.measure)
        return total


def one_map(name: str, student: int, teacher: int) -> dict[str, MapSize]:
    """The size of a map from the student's width to the teacher's; none where they are equal."""
    return {} if student == teacher else {name: MapSize(student, teacher)}


def distance(mapped: Tensor, target: Tensor, measure: Measure) -> Float[Tensor, ""]:
    """The sum over rows of their mean squared difference, or of one minus their cosine.

    Computed in float32, whatever the precision of both; the target gets no gradient.
    """
    with float32_region(mapped):
        mapped, target = mapped.float(), target.detach().float()
        if measure == "cosine":
            return (1 - cosine_similarity(mapped, target, dim=-1)).sum()
        return mse_loss(mapped, target, reduction="sum") / mapped.shape[-1]


def real_rows(tokens: Tokens) -> Callable[[Tensor], Tensor]:
    """A function from a batch's states (batch, tokens, width) to real tokens' (rows, width).

    >>> mask = torch.tensor([[True, False], [True, True]])
    >>> tokens = Tokens(mask.long(), mask, labels=mask.long(), predicted=mask)
    >>> real_rows(tokens)(torch.arange(4.0).view(2, 2, 1))
    tensor([[0.],
            [2.],
            [3.]])
    """
    if tokens.all_real:
        return lambda states: states.flatten(0, 1)
    # Selected by index: the gradient of a selection by mask is many times slower.
    return lambda states: states.flatten(0, 1).index_select(0, tokens.real_places)
