"""The student learns to give every span of text the likelihood that its teacher gives it.

With two vocabularies a span begins and ends where both tokenizers have a token boundary, and may
be several tokens of each; with one vocabulary a span is a token.

Source: approximate likelihood matching, Minixhofer et al. 2025, arXiv:2503.20083.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..activations import Activations, Needs, float32_region
from ..batch import Batch
from ..errors import ObjectiveError
from ..models.shapes import Shape
from ..student.projections import Projections
from ..token_ids import TokenIds
from .contract import required
from .labels import label_log_likelihoods
from .options import SpanLikelihoodOptions
from .predicted import PredictedObjective, within_vocabulary

_CERTAIN = -1e-37  # log-likelihoods nearer to 0 would have no finite logarithm of the rest


@dataclass(frozen=True)
class SpanLikelihood(SpanLikelihoodOptions, PredictedObjective):
    """Divergence of the likelihoods of text spans, summed over spans, each a predicted position.

    Attributes:
        vocabulary: Rows of both output maps that are tokens, where there is one tokenizer, or
            how many of the first rows are; by default as the models have it.
    """

    vocabulary: TokenIds | int | None = None
    unit: ClassVar[str] = "nats per span of text, times the temperature"

    def bound(self, student: Shape, teacher: Shape | None) -> "SpanLikelihood":
        """The same objective with the rows that are tokens."""
        of_both = student.token_ids.below(required(teacher).vocab_size)
        return replace(self, vocabulary=within_vocabulary(of_both, self.vocabulary))

    def student_needs(self) -> Needs:
        """Predictions, or the likelihoods that alignment makes from them."""
        return Needs(predictions=True, likelihoods=True)

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """KL between "this span" and "any other", summed over spans."""
        mine, theirs = (self._likelihoods(found, batch) for found in (student, teacher))
        with float32_region(mine):
            logs = [
                (side.float() / self.temperature).clamp_max(_CERTAIN)
                for side in (theirs.detach(), mine)
            ]
            rest = [torch.log(-torch.expm1(side)) for side in logs]
            this = logs[0].exp() * (logs[0] - logs[1])
            other = rest[0].exp() * (rest[0] - rest[1])
            return (this + other).sum() * self.temperature

    def _likelihoods(self, found: Activations, batch: Batch) -> Tensor:
        if found.likelihoods is not None:
            return found.likelihoods
        if found.predictions is None:
            raise ObjectiveError("span_likelihood needs predictions of student and teacher")
        labels = batch.student.at_predicted(batch.student.labels)
        return label_log_likelihoods(found.predictions, labels, vocabulary=self.vocabulary)
