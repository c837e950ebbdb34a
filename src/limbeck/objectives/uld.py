"""The student's sorted probabilities learn to equal the teacher's sorted probabilities.

Only the sizes of probabilities are compared, so the two vocabularies may differ in any way.

Source: universal logit distillation, Boizard et al. 2024, arXiv:2402.12030.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..activations import Activations
from ..batch import Batch
from ..errors import ObjectiveError, Problem
from ..models.shapes import Shape
from ..student.projections import Projections
from ..token_ids import TokenIds
from .contract import required
from .options import UldOptions
from .predicted import PredictedObjective
from .vocabulary_rows import vocabulary_loss


@dataclass(frozen=True)
class Uld(UldOptions, PredictedObjective):
    """Absolute differences of sorted probabilities, summed over the predicted positions.

    Attributes:
        vocabularies: Rows that are tokens in the student's and in the teacher's output map, or how
            many of the first rows are; by default as the models have it.
    """

    vocabularies: tuple[TokenIds | int, TokenIds | int] | None = None
    unit: ClassVar[str] = "probability per predicted token"

    def problems_between(self, student: Shape, teacher: Shape) -> list[Problem]:
        """Fewer than one token, or more tokens than a model has."""
        most = student.vocab_size, teacher.vocab_size
        given = [TokenIds.given(ids).end for ids in self.vocabularies or most]
        if all(1 <= mine <= rows for mine, rows in zip(given, most, strict=True)):
            return []
        return [("vocabularies", f"are {given}; give 1 to {list(most)}, or leave it out")]

    def bound(self, student: Shape, teacher: Shape | None) -> "Uld":
        """The same objective with the rows of both output maps that are tokens."""
        ids = student.token_ids, required(teacher).token_ids
        if self.vocabularies is not None:
            ends = [TokenIds.given(given).end for given in self.vocabularies]
            ids = ids[0].below(ends[0]), ids[1].below(ends[1])
        return Uld(self.top_k, ids)

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Probability, summed over the predicted positions."""
        if student.predictions is None or teacher.predictions is None:
            raise ObjectiveError("uld needs predictions of student and teacher")
        rows = [len(side.predictions.weight) for side in (student, teacher) if side.predictions]
        mine, theirs = (TokenIds.given(ids) for ids in self.vocabularies or rows)

        def block_loss(logits: Tensor, of_teacher: Tensor) -> tuple[Tensor, Tensor]:
            probabilities, target = (torch.softmax(given, -1) for given in (logits, of_teacher))
            most = self.top_k or max(len(mine), len(theirs))
            ordered, places = probabilities.topk(min(most, len(mine)), dim=-1)
            expected = target.topk(min(most, len(theirs)), dim=-1).values
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
            tokens=mine,
            teacher_tokens=theirs,
        )
