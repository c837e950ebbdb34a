"""Objectives over the predictions of both models, summed over the predicted positions."""

from ..activations import Needs
from ..batch import Batch
from ..errors import Problem
from ..token_ids import TokenIds
from .contract import Objective


class PredictedObjective(Objective):
    """An objective that reads predictions and counts predicted positions."""

    def student_needs(self) -> Needs:
        """Predictions."""
        return Needs(predictions=True)

    def count(self, batch: Batch) -> int:
        """Predicted positions."""
        return int(batch.student.predicted.sum())


def vocabulary_problems(vocabulary: TokenIds | int | None, rows: int) -> list[Problem]:
    """The problem of a ``vocabulary`` that does not fit so many rows of an output map."""
    if vocabulary is None or 1 <= TokenIds.given(vocabulary).end <= rows:
        return []
    return [("vocabulary", f"is {vocabulary}; give 1 to {rows}, or leave it out")]


def within_vocabulary(ids: TokenIds, vocabulary: TokenIds | int | None) -> TokenIds:
    """The ids that are also in a ``vocabulary``; all where it is None."""
    if vocabulary is None:
        return ids
    given = TokenIds.given(vocabulary)
    both = given.below(ids.end), ids.below(given.end)
    return TokenIds(both[0].end, tuple(sorted({*both[0].absent, *both[1].absent})))
