"""The student of a reranker learns how much higher its teacher scores one document than another.

Rows 2k and 2k+1 of a batch are two documents of one query. A constant that the teacher adds to all
scores of a query is not learned, so the student may keep its own level.

Source: Hofstätter et al. 2020, arXiv:2010.02666.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from ..activations import Activations, Needs
from ..batch import Batch, Tokens, places_of
from ..errors import ObjectiveError, Problem
from ..models.shapes import Shape
from ..models.task_heads import SCORE
from ..student.projections import Projections
from .class_logits import ClassLogits, both_logits
from .class_options import MarginMseOptions
from .contract import Objective


@dataclass(frozen=True)
class MarginMse(MarginMseOptions, Objective):
    """Squared difference of margins, summed over pairs of documents of one query."""

    unit: ClassVar[str] = "squared difference of margins, per pair of documents"

    def problems_between(self, student: Shape, teacher: Shape) -> list[Problem]:
        """Heads that are missing, or that give classes."""
        if found := ClassLogits().problems_between(student, teacher):
            return found
        if student.labels == (SCORE,):
            return []
        message = (
            "compares scores, and the head gives classes; use `class_logits`, or a teacher that"
            " gives one number (num_labels 1)"
        )
        return [("", message)]

    def student_needs(self) -> Needs:
        """Scores of the head."""
        return Needs(class_logits=True)

    def rows_together(self) -> int:
        """The two documents of a pair."""
        return 2

    def count(self, batch: Batch) -> int:
        """Pairs of rows of one query."""
        return int(_pairs(batch.student).sum())

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Squared differences of margins, summed over pairs.

        Raises:
            ObjectiveError: Scores or queries are missing, or there is not one score for each row.
        """
        mine, theirs = both_logits(student, teacher, None)
        pairs = places_of(_pairs(batch.student.here), mine.device)
        wanted = (len(batch.student.mask), 1)
        if mine.shape != wanted or theirs.shape != wanted:
            raise ObjectiveError(
                f"margins need one score for each of {wanted[0]} rows, and the heads give"
                f" {tuple(mine.shape)} (student) and {tuple(theirs.shape)} (teacher); use models"
                " with num_labels 1"
            )
        above = (mine - theirs).squeeze(-1)  # how far a row is scored above the teacher's score
        first, second = above[0::2], above[1::2]
        return (first[: len(second)] - second)[pairs].square().sum()


def _pairs(tokens: Tokens) -> Bool[Tensor, " pairs"]:
    """Which of the rows 2k and 2k+1 are documents of one query; a last row alone is none.

    Raises:
        ObjectiveError: The queries are not known.
    """
    if tokens.queries is None:
        raise ObjectiveError(
            "margins are between rows of one query, and the batch does not say whose rows are"
            " whose; give `queries` with its tokens"
        )
    real = tokens.mask.any(-1)
    both = real[0::2][: len(real) // 2] & real[1::2]
    return both & (tokens.queries[0::2][: len(real) // 2] == tokens.queries[1::2])
