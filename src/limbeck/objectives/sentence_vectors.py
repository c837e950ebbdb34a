"""The student's vector of each text lies where its teacher's does, without any labels.

Both models pool the states of a text to one vector as `models.sentences` does. A student of another
width ends in a Dense layer to the teacher's, which is trained with it and exported with it.

Source: Reimers and Gurevych 2020, arXiv:2004.09813 (squared distance); Kim and Baek 2025, LEAF,
arXiv:2509.12539 (no labels, no hard negatives); prefixes of several widths, Kusupati et al. 2022,
Matryoshka Representation Learning, arXiv:2205.13147.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..activations import Activations, Needs, float32_region
from ..batch import Batch, places_of
from ..errors import ObjectiveError, Problem
from ..models.shapes import Shape
from ..student.projections import Projections
from .contract import Objective
from .sentence_options import SentenceVectorsOptions


@dataclass(frozen=True)
class SentenceVectors(SentenceVectorsOptions, Objective):
    """Distance of the vectors of texts, summed over texts and averaged over widths."""

    unit: ClassVar[str] = "distance per text"

    def problems_between(self, student: Shape, teacher: Shape) -> list[Problem]:
        """None: a student of another width gets a layer to the teacher's."""
        return []

    def bound(self, student: Shape, teacher: Shape | None) -> "SentenceVectors":
        """The same."""
        return self

    def student_needs(self) -> Needs:
        """Vectors of texts."""
        return Needs(sentence_vectors=True)

    def teacher_needs(self) -> Needs:
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
        with float32_region(mine):
            mine, theirs = mine[real].float(), theirs[real].detach().float()
            totals = [self._distance(mine[:, :width], theirs[:, :width]) for width in widths]
        return sum(totals[1:], totals[0]) / len(totals)

    def _distance(self, mine: Tensor, theirs: Tensor) -> Tensor:
        if self.measure == "mse":
            return (mine - theirs).square().mean(-1).sum()
        return (1 - cosine_similarity(mine, theirs, dim=-1)).sum()
