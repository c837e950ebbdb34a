"""The student predicts the hidden pieces of the text itself: masked-language-model labels.

Needs no teacher: alone in a stage it is plain pretraining, the control of every
comparison and the way to a missing vocabulary head.

Source: Devlin et al. 2019, BERT, arXiv:1810.04805.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from ..activations import Activations, Needs, float32_region
from ..architectures import Shape
from ..batch import Batch
from ..errors import ObjectiveError
from ..student.projections import Projections
from .contract import Fault


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
        """Logits at the predicted positions."""
        return Needs(logits=True)

    def teacher_needs(self) -> Needs:
        """Nothing."""
        return Needs()

    def projection_sizes(self, student: Shape, teacher: Shape | None) -> dict[str, tuple[int, int]]:
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
            ObjectiveError: The student gave no logits.
        """
        if student.logits is None:
            raise ObjectiveError("labels need the student's logits, and none were captured")
        labels = batch.student.labels[batch.student.predicted]
        with float32_region(student.logits):
            return cross_entropy(student.logits.float(), labels, reduction="sum")
