"""The student's vector of each text lies where its teacher's does, without any labels.

Both models pool the states of a text to one vector as `models.sentences` does. A student of another
width ends in a Dense layer to the teacher's, which is trained with it and exported with it.

Source: Reimers and Gurevych 2020, arXiv:2004.09813 (squared distance); Kim and Baek 2025, LEAF,
arXiv:2509.12539 (no labels, no hard negatives); prefixes of several widths, Kusupati et al. 2022,
Matryoshka Representation Learning, arXiv:2205.13147.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..activations import Activations, Needs
from ..batch import Batch, places_of
from ..errors import ObjectiveError
from ..student.projections import Projections
from .contract import Objective
from .mapped import distance
from .sentence_options import SentenceVectorsOptions


@dataclass(frozen=True)
class SentenceVectors(SentenceVectorsOptions, Objective):
    """Distance of the vectors of texts, summed over texts and averaged over widths."""

    unit: ClassVar[str] = "distance per text"

    def student_needs(self) -> Needs:
        """Vectors of texts."""
        return Needs(sentence_vectors=True)

    def count(self, batch: Batch) -> int:
        """Texts."""
        return int(batch.student.mask.any(-1).sum())

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """One minus cosines, or mean squared differences of coordinates, summed over texts.

        Raises:
            ObjectiveError: Vectors are missing, or a width is more than they have.
        """
        mine, theirs = student.sentence_vectors, teacher.sentence_vectors
        if mine is None or theirs is None:
            raise ObjectiveError("vectors of student and teacher are needed, and were not given")
        widths = self.matryoshka_dims or (theirs.shape[-1],)
        if max(widths) > theirs.shape[-1] or mine.shape[-1] != theirs.shape[-1]:
            raise ObjectiveError(
                f"widths {widths} are compared of vectors with {mine.shape[-1]} (student) and"
                f" {theirs.shape[-1]} coordinates (teacher); give widths that both have"
            )
        real = places_of(batch.student.here.mask.any(-1), mine.device)
        mine, theirs = mine[real], theirs[real]
        totals = [distance(mine[:, :width], theirs[:, :width], self.measure) for width in widths]
        return torch.stack(totals).mean()
