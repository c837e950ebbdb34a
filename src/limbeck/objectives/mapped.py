"""Objectives that compare the student's vectors with the teacher's after a learned map.

What such an objective says is which rows stand against which; the distance, and least squares
for the maps' first weights, follow from it.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from ..activations import Activations, float32_region
from ..batch import Batch
from ..student.projections import Projections
from .contract import Objective
from .options import Measure


class Compared(NamedTuple):
    """Rows of both models, and the name of the map that carries the student's to the teacher's."""

    map: str
    state: Float[Tensor, "rows student_width"]
    target: Float[Tensor, "rows teacher_width"]


class MappedObjective(Objective):
    """An objective over vectors that a learned map makes comparable, where widths differ.

    Attributes:
        measure: ``mse``, or ``cosine`` for one minus the cosine.
    """

    measure: Measure

    @abstractmethod
    def compared(
        self, student: Activations, teacher: Activations, batch: Batch
    ) -> Iterator[Compared]:
        """All that is compared, at real tokens alone."""
        ...

    def trains(self, name: str) -> bool:
        """Whether that map is trained; if not it stays as random as it began."""
        return True

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Squared difference a coordinate, or one minus the cosine, summed over all rows."""
        total = torch.zeros((), device=batch.student.mask.device)
        for name, state, target in self.compared(student, teacher, batch):
            mapped = projections(name, state, trained=self.trains(name))
            total = total + distance(mapped, target, self.measure)
        return total


def distance(mapped: Tensor, target: Tensor, measure: Measure) -> Float[Tensor, ""]:
    """The sum over rows of their mean squared difference, or of one minus their cosine.

    In float32, whatever the precision of both; the target gets no gradient.
    """
    with float32_region(mapped):
        mapped, target = mapped.float(), target.detach().float()
        if measure == "cosine":
            return (1 - cosine_similarity(mapped, target, dim=-1)).sum()
        return mse_loss(mapped, target, reduction="sum") / mapped.shape[-1]


def real_rows(mask: Bool[Tensor, "batch tokens"]) -> Callable[[Tensor], Tensor]:
    """Takes states of a batch, (batch, tokens, width), to those of its real tokens, (rows, width).

    >>> real_rows(torch.tensor([[True, False], [True, True]]))(torch.arange(4.0).view(2, 2, 1))
    tensor([[0.],
            [2.],
            [3.]])
    """
    if bool(mask.all()):
        return lambda states: states.flatten(0, 1)
    # Chosen by number: the gradient of a choice by truth values is many times slower.
    places = mask.flatten().nonzero().squeeze(1)
    return lambda states: states.flatten(0, 1).index_select(0, places)
