"""The student finds the same texts similar as its teacher does, without any labels.

Each text of a group is compared with all others of that group; what both models find becomes a
distribution over the others. The vectors of the two models are never compared, so they may differ
in width.

Source: Fang et al. 2021, SEED, arXiv:2101.04731 (distributions of similarities); Tung and Mori
2019, arXiv:1907.09682 (similarities within a batch).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import log_softmax, normalize, pad

from ..activations import Activations, Needs, float32_region
from ..batch import Batch
from ..errors import ObjectiveError
from ..student.projections import Projections
from .contract import Objective
from .sentence_options import SentenceSimilaritiesOptions

_FAR = -1e9  # the logit of what is not compared; finite, so that no row is without a number


@dataclass(frozen=True)
class SentenceSimilarities(SentenceSimilaritiesOptions, Objective):
    """Divergence of the similarities of each text to the others of its group, summed over texts."""

    unit: ClassVar[str] = "nats per text"

    def student_needs(self) -> Needs:
        """Vectors of texts."""
        return Needs(sentence_vectors=True)

    def rows_together(self) -> int:
        """The texts of a group."""
        return self.group_size

    def count(self, batch: Batch) -> int:
        """Texts that have another in their group."""
        return int(self._compared(batch.student.mask.any(-1)).any(-1).sum())

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """The forward KL of similarities, summed over texts.

        Raises:
            ObjectiveError: Vectors are missing.
        """
        mine, theirs = student.sentence_vectors, teacher.sentence_vectors
        if mine is None or theirs is None:
            raise ObjectiveError("vectors of student and teacher are needed, and were not given")
        compared = self._compared(batch.student.mask.any(-1))
        with float32_region(mine):
            found = self._likelihoods(mine.float(), compared)
            wanted = self._likelihoods(theirs.detach().float(), compared)
            return (wanted.exp() * (wanted - found)).sum()

    def _compared(self, real: Bool[Tensor, " batch"]) -> Bool[Tensor, "groups group group"]:
        """Which texts of each group are compared: real ones with others that are."""
        groups = self._grouped(real)
        itself = torch.eye(self.group_size, dtype=torch.bool, device=real.device)
        return groups[:, :, None] & groups[:, None, :] & ~itself

    def _likelihoods(
        self, vectors: Float[Tensor, "batch width"], compared: Bool[Tensor, "groups group group"]
    ) -> Float[Tensor, "groups group group"]:
        """Logarithms of the distribution of each text over the others of its group."""
        groups = self._grouped(normalize(vectors, dim=-1))
        logits = groups @ groups.transpose(1, 2) / self.temperature
        return log_softmax(logits.masked_fill(~compared, _FAR), dim=-1)

    def _grouped(self, rows: Tensor) -> Tensor:
        """Rows in groups; the last one is filled up with zeros."""
        missing = -len(rows) % self.group_size
        filled = pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing))
        return filled.reshape(-1, self.group_size, *rows.shape[1:])
