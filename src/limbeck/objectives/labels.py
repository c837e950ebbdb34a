"""The student predicts the text's own hidden tokens: masked-language-model labels.

This objective needs no teacher: alone in a stage it is plain pretraining. It is the control of
every comparison, and it trains a missing vocabulary head.

Source: Devlin et al. 2019, BERT, arXiv:1810.04805.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear, logsigmoid
from torch.utils.checkpoint import checkpoint

from ..activations import Activations, Needs, Predictions, float32_region, log_rest, soft_capped
from ..batch import Batch
from ..errors import ObjectiveError, Problem
from ..models.shapes import Shape
from ..student.projections import Projections
from ..token_ids import TokenIds
from .divergences import Distribution
from .options import LabelsOptions
from .predicted import PredictedObjective, vocabulary_problems, within_vocabulary
from .vocabulary_rows import vocabulary_loss

_TOGETHER = 2**23  # logits that are held at once where the likelihood of each row is needed


@dataclass(frozen=True)
class Labels(LabelsOptions, PredictedObjective):
    """Cross-entropy against the original token, summed over the predicted positions.

    Attributes:
        vocabulary: Rows of the output map that are tokens of the tokenizer, or how many of
            the first rows are; by default as the models have it. Rows without a token get no
            probability, as in `logits`.
    """

    vocabulary: TokenIds | int | None = None
    unit: ClassVar[str] = "nats per predicted token"

    def problems_with(self, student: Shape, teacher: Shape | None) -> list[Problem]:
        """More tokens than the student has; any student with a vocabulary head can learn."""
        return vocabulary_problems(self.vocabulary, student.token_ids.end)

    def bound(self, student: Shape, teacher: Shape | None) -> "Labels":
        """The same objective with the rows that are tokens."""
        return replace(self, vocabulary=within_vocabulary(student.token_ids, self.vocabulary))

    def teacher_needs(self) -> Needs:
        """Nothing."""
        return Needs()

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Nats, summed over the predicted positions."""
        if student.predictions is None:
            raise ObjectiveError("labels need the student's predictions, and none were captured")
        labels = batch.student.at_predicted(batch.student.labels)
        return label_loss(student.predictions, labels, vocabulary=self.vocabulary)


def label_loss(
    predictions: Predictions,
    labels: Int[Tensor, " predicted"],
    *,
    vocabulary: TokenIds | int | None = None,
) -> Float[Tensor, ""]:
    """The cross-entropy of the predicted rows against their labels, in nats, summed.

    Args:
        predictions: The predictions of the rows.
        labels: The label of each row, as an id.
        vocabulary: Rows of the output map that are tokens, over which probabilities sum to
            one; by default all rows.
    """
    ids = TokenIds.given(vocabulary or len(predictions.weight))

    def block_loss(logits: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        right = columns[:, None]
        probabilities, logs = Distribution.of_logits(logits)
        total = -logs.gather(-1, right).sum()
        return total, probabilities.scatter_add_(-1, right, logs.new_full(right.shape, -1.0))

    columns = ids.columns_of(labels)
    return vocabulary_loss(predictions, None, block_loss, tokens=ids, of_rows=[columns])


def label_log_likelihoods(
    predictions: Predictions,
    labels: Int[Tensor, " predicted"],
    *,
    vocabulary: TokenIds | int | None = None,
) -> Float[Tensor, " predicted"]:
    """Logarithm of the probability of each row's label, in nats, float32.

    Computed for some rows at a time, and recomputed for the gradient, so that the matrix of rows x
    tokens is never held.

    Args:
        predictions: The predictions of the rows.
        labels: The label of each row, as an id.
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
            predictions.soft_cap,
            labels[rows],
            ids,
        )
        found.append(checkpoint(_likelihoods, *given, use_reentrant=False))
    # Without rows, an empty column: it belongs to the graph as any other result does.
    return torch.cat(found) if found else predictions.features.float()[:, 0]


def _likelihoods(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    soft_cap: float | None,
    labels: Tensor,
    ids: TokenIds,
) -> Tensor:
    logits = linear(features, weight, bias)
    with float32_region(logits):
        logits = ids.only(logits)
        if soft_cap is not None:
            logits = soft_capped(logits.float(), soft_cap)
        # Compared with all other tokens, not with all tokens: the distance of a nearly certain
        # label from certainty is kept, which a softmax would round away.
        others = log_rest(logits, labels[:, None])
        return logsigmoid(logits.gather(-1, labels[:, None]) - others).squeeze(1)
