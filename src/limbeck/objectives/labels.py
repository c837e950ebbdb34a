"""The student predicts the hidden pieces of the text itself: masked-language-model labels.

Needs no teacher: alone in a stage it is plain pretraining, the control of every
comparison and the way to a missing vocabulary head.

Source: Devlin et al. 2019, BERT, arXiv:1810.04805.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from ..activations import Activations, Needs, Predictions
from ..architectures import Shape
from ..batch import Batch
from ..errors import ObjectiveError
from ..student.projections import MapSize, Projections
from .contract import Fault
from .divergences import Distribution
from .vocabulary_rows import vocabulary_loss


@dataclass(frozen=True)
class Labels:
    """Cross-entropy against the original piece, summed over the predicted positions."""

    unit: ClassVar[str] = "nats per predicted piece"

    def faults(self, student: Shape, teacher: Shape | None) -> list[Fault]:
        """None: any student with a vocabulary head can learn from labels."""
        return []

    def bound(self, student: Shape, teacher: Shape | None) -> "Labels":
        """Itself."""
        return self

    def student_needs(self) -> Needs:
        """Predictions."""
        return Needs(predictions=True)

    def teacher_needs(self) -> Needs:
        """Nothing."""
        return Needs()

    def projection_sizes(self, student: Shape, teacher: Shape | None) -> dict[str, MapSize]:
        """None."""
        return {}

    def layer_pairs(self) -> list[tuple[int, int]]:
        """None."""
        return []

    def count(self, batch: Batch) -> int:
        """Predicted positions."""
        return int(batch.student.predicted.sum())

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Nats, summed over the predicted positions.

        Raises:
            ObjectiveError: The student gave no predictions.
        """
        if student.predictions is None:
            raise ObjectiveError("labels need the student's predictions, and none were captured")
        return label_loss(student.predictions, batch.student.labels[batch.student.predicted])


def label_loss(predictions: Predictions, labels: Int[Tensor, " predicted"]) -> Float[Tensor, ""]:
    """Nats, summed over the predicted rows: the cross-entropy against their labels."""

    def block_loss(rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        right = labels[rows, None]
        probabilities, logs = Distribution.of_logits(logits)
        total = -logs.gather(-1, right).sum()
        return total, probabilities.scatter_add_(-1, right, logs.new_full(right.shape, -1.0))

    return vocabulary_loss(predictions, None, block_loss, pieces=len(predictions.weight))
