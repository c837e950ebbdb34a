"""The student's probabilities, in order of size, come to equal the teacher's in order of size.

Nothing is asked of the pieces, so the two may have any vocabularies.

Source: universal logit distillation, Boizard et al. 2024, arXiv:2402.12030.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..activations import Activations, Needs
from ..architectures import Shape
from ..batch import Batch
from ..errors import ObjectiveError
from ..student.projections import Projections
from .contract import Fault, Objective, no_teacher, required
from .vocabulary_rows import vocabulary_loss


@dataclass(frozen=True)
class Uld(Objective):
    """Absolute differences of sorted probabilities, summed over the predicted positions.

    Attributes:
        pieces: Only so many of the largest probabilities are compared; None compares
            all, which means sorting them.
        vocabularies: Rows of both output maps that are pieces; the recipe's models say it.
    """

    pieces: int | None = 1000
    vocabularies: tuple[int, int] | None = None
    unit: ClassVar[str] = "probability per predicted piece"

    def faults(self, student: Shape, teacher: Shape | None) -> list[Fault]:
        """No teacher, or fewer than one piece."""
        if teacher is None:
            return no_teacher(teacher)
        if self.pieces is not None and self.pieces < 1:
            return [("pieces", f"is {self.pieces}; give 1 or more, or leave it out")]
        most = student.vocabulary, teacher.vocabulary
        given = self.vocabularies or most
        if not all(1 <= mine <= rows for mine, rows in zip(given, most, strict=True)):
            return [("vocabularies", f"are {given}; give 1 to {most}, or leave it out")]
        return []

    def bound(self, student: Shape, teacher: Shape | None) -> "Uld":
        """With the sizes of both vocabularies."""
        sizes = [shape.pieces or shape.vocabulary for shape in (student, required(teacher))]
        return Uld(self.pieces, self.vocabularies or (sizes[0], sizes[1]))

    def student_needs(self) -> Needs:
        """Predictions."""
        return Needs(predictions=True)

    def teacher_needs(self) -> Needs:
        """Predictions."""
        return Needs(predictions=True)

    def count(self, batch: Batch) -> int:
        """Predicted positions."""
        return int(batch.student.predicted.sum())

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Probability, summed over the predicted positions.

        Raises:
            ObjectiveError: One of them gave no predictions.
        """
        if student.predictions is None or teacher.predictions is None:
            raise ObjectiveError("uld needs predictions of student and teacher")
        sizes = [len(side.predictions.weight) for side in (student, teacher) if side.predictions]
        mine, theirs = self.vocabularies or sizes

        def block_loss(rows: slice, logits: Tensor, of_teacher: Tensor) -> tuple[Tensor, Tensor]:
            probabilities, target = (torch.softmax(given, -1) for given in (logits, of_teacher))
            most = self.pieces or max(mine, theirs)
            ordered, places = probabilities.topk(min(most, mine), dim=-1)
            expected = target.topk(min(most, theirs), dim=-1).values
            width = max(ordered.shape[1], expected.shape[1])
            given = [pad(side, (0, width - side.shape[1])) for side in (ordered, expected)]
            difference = given[0] - given[1]
            slope = torch.zeros_like(probabilities)
            slope.scatter_(-1, places, difference[:, : ordered.shape[1]].sign())
            slope.mul_(probabilities)
            slope.addcmul_(probabilities, slope.sum(-1, keepdim=True), value=-1)
            return difference.abs().sum(), slope

        return vocabulary_loss(
            student.predictions,
            teacher.predictions,
            block_loss,
            pieces=mine,
            teacher_pieces=theirs,
        )
