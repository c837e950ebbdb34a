"""The mean over all of the student's layers learns to equal the mean over all of the teacher's.

Source: Kolesnikova et al. 2022, arXiv:2205.02340.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..activations import Activations, Needs
from ..batch import Batch
from ..errors import ObjectiveError
from ..models.shapes import Shape
from ..student.projections import MapSize
from .contract import required
from .mapped import Compared, MappedObjective, one_map, real_rows
from .options import MeanHiddenStatesOptions

_NAME = "mean_hidden"


@dataclass(frozen=True)
class MeanHiddenStates(MeanHiddenStatesOptions, MappedObjective):
    """Distance of the means over layers and embedding output, summed over real tokens.

    Attributes:
        layers: Numbers of layers of student and teacher; by default as the models have it.
    """

    layers: tuple[int, int] | None = None
    unit: ClassVar[str] = "distance per token, averaged over coordinates"

    def bound(self, student: Shape, teacher: Shape | None) -> "MeanHiddenStates":
        """The same objective with the numbers of layers of both models."""
        layers = student.num_hidden_layers, required(teacher).num_hidden_layers
        return MeanHiddenStates(self.measure, self.trainable, self.layers or layers)

    def student_needs(self) -> Needs:
        """All hidden states and the embedding output."""
        return self._needs(0)

    def teacher_needs(self) -> Needs:
        """All hidden states and the embedding output."""
        return self._needs(1)

    def projection_sizes(self, student: Shape, teacher: Shape | None) -> dict[str, MapSize]:
        """One map, where the widths differ."""
        return one_map(_NAME, student.hidden_size, required(teacher).hidden_size)

    def trains(self, name: str) -> bool:
        """Whether the option `trainable` is set."""
        return self.trainable

    def compared(
        self, student: Activations, teacher: Activations, batch: Batch
    ) -> Iterator[Compared]:
        """The means of both models.

        Raises:
            ObjectiveError: One of the models returned no embedding output.
        """
        rows = real_rows(batch.student)
        yield Compared(_NAME, rows(_mean(student)), rows(_mean(teacher)))

    def _needs(self, whose: int) -> Needs:
        count = self.layers[whose] if self.layers else 0
        return Needs(embeddings=True, hidden=frozenset(range(count)))


def _mean(found: Activations) -> Tensor:
    if found.embeddings is None:
        raise ObjectiveError("mean_hidden_states needs the embedding output of student and teacher")
    states = [found.embeddings, *found.hidden.values()]
    return torch.stack([state.float() for state in states]).mean(0)
