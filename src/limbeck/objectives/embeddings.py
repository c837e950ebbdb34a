"""The student's embedding output learns to equal the teacher's.

The embedding output is what enters the first layer; it is not a layer and has no number.

Source: Jiao et al. 2020, TinyBERT, arXiv:1909.10351.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ..activations import Activations, Needs
from ..batch import Batch
from ..errors import ObjectiveError
from ..models.shapes import Shape
from ..student.projections import MapSize
from .contract import required
from .mapped import Compared, MappedObjective, one_map, real_rows
from .options import EmbeddingsOptions

_NAME = "embeddings"


@dataclass(frozen=True)
class Embeddings(EmbeddingsOptions, MappedObjective):
    """Distance of the embedding outputs, summed over real tokens."""

    unit: ClassVar[str] = "distance per token, averaged over coordinates"

    def bound(self, student: Shape, teacher: Shape | None) -> "Embeddings":
        """The objective itself: it names no layers."""
        required(teacher)
        return self

    def student_needs(self) -> Needs:
        """The embedding output."""
        return Needs(embeddings=True)

    def projection_sizes(self, student: Shape, teacher: Shape | None) -> dict[str, MapSize]:
        """One map, where the widths differ."""
        return one_map(_NAME, student.hidden_size, required(teacher).hidden_size)

    def compared(
        self, student: Activations, teacher: Activations, batch: Batch
    ) -> Iterator[Compared]:
        """The embedding outputs of both models.

        Raises:
            ObjectiveError: One of the models returned no embedding output.
        """
        if student.embeddings is None or teacher.embeddings is None:
            raise ObjectiveError("embeddings need the embedding output of student and teacher")
        rows = real_rows(batch.student)
        yield Compared(_NAME, rows(student.embeddings), rows(teacher.embeddings))
