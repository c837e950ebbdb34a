"""The student predicts the hidden tokens of the text itself: masked-language-model labels.

Needs no teacher: alone in a stage it is plain pretraining, the control of every
comparison and the way to a missing vocabulary head.

Source: Devlin et al. 2019, BERT, arXiv:1810.04805.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear, logsigmoid
from torch.utils.checkpoint import checkpoint

from ..activations import Activations, Needs, Predictions, float32_region, log_rest
from ..batch import Batch
from ..errors import ObjectiveError, Problem
from ..models.shapes import Shape
from ..student.projections import Projections
from ..token_ids import TokenIds
from .contract import Objective
from .divergences import Distribution
from .options import LabelsOptions
from .vocabulary_rows import vocabulary_loss

_TOGETHER = 2**23  # logits that are held at once where each row's likelihood is asked for


@dataclass(frozen=True)
class Labels(LabelsOptions, Objective):
    """Cross-entropy against the original token, summed over the predicted positions.

    Attributes:
        vocabulary: Rows of the output map that are tokens of the tokenizer, or how many of
            the first are; the recipe's models say it. Rows that no token has get no
            probability, as in `logits`.
    """

    vocabulary: TokenIds | int | None = None
    unit: ClassVar[str] = "nats per predicted token"

    def problems_with(self, student: Shape, teacher: Shape | None) -> list[Problem]:
        """More tokens than the student has; any student with a vocabulary head can learn."""
        rows = student.token_ids.end
        if self.vocabulary is None or 1 <= TokenIds.given(self.vocabulary).end <= rows:
            return []
        return [("vocabulary", f"is {self.vocabulary}; give 1 to {rows}, or leave it out")]

    def bound(self, student: Shape, teacher: Shape | None) -> "Labels":
        """With the rows that are tokens."""
        ids = student.token_ids
        if self.vocabulary is not None:
            ids = ids.below(TokenIds.given(self.vocabulary).end)
        return replace(self, vocabulary=ids)

    def student_needs(self) -> Needs:
        """Predictions."""
        return Needs(predictions=True)

    def teacher_needs(self) -> Needs:
        """Nothing."""
        return Needs()

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
        labels = batch.student.labels[batch.student.predicted]
        return label_loss(student.predictions, labels, vocabulary=self.vocabulary)


def label_loss(
    predictions: Predictions,
    labels: Int[Tensor, " predicted"],
    *,
    vocabulary: TokenIds | int | None = None,
) -> Float[Tensor, ""]:
    """Nats, summed over the predicted rows: the cross-entropy against their labels.

    Args:
        predictions: Of the rows.
        labels: The id of each.
        vocabulary: Rows of the output map that are tokens, over which probabilities sum to
            one; by default all.
    """
    ids = TokenIds.given(vocabulary or len(predictions.weight))
    columns = ids.columns_of(labels)

    def block_loss(rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        right = columns[rows, None]
        probabilities, logs = Distribution.of_logits(logits)
        total = -logs.gather(-1, right).sum()
        return total, probabilities.scatter_add_(-1, right, logs.new_full(right.shape, -1.0))

    return vocabulary_loss(predictions, None, block_loss, tokens=ids)


def label_log_likelihoods(
    predictions: Predictions,
    labels: Int[Tensor, " predicted"],
    *,
    vocabulary: TokenIds | int | None = None,
) -> Float[Tensor, " predicted"]:
    """Logarithm of the probability of each row's label, in nats, float32.

    Some rows at a time, and made again for the gradient: rows x tokens is never held.

    Args:
        predictions: Of the rows.
        labels: The id of each.
        vocabulary: As for `label_loss`.
    """
    ids = TokenIds.given(vocabulary or len(predictions.weight))
    together = max(1, _TOGETHER // len(predictions.weight))
    found = []
    for start in range(0, len(labels), together):
        rows = slice(start, start + together)
        given = (
            predictions.features[rows],
            predictions.weight,
            predictions.bias,
            labels[rows],
            ids,
        )
        found.append(checkpoint(_likelihoods, *given, use_reentrant=False))
    # Of no rows an empty column: it belongs to the graph as all others do.
    return torch.cat(found) if found else predictions.features.float()[:, 0]


def _likelihoods(
    features: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, ids: TokenIds
) -> Tensor:
    logits = linear(features, weight, bias)
    with float32_region(logits):
        logits = ids.only(logits)
        # Against all others, not against all: a label that is nearly certain keeps its distance
        # from certainty, which a softmax rounds away.
        others = log_rest(logits, labels[:, None])
        return logsigmoid(logits.gather(-1, labels[:, None]) - others).squeeze(1)
