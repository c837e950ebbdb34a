"""The student keeps the teacher's token-to-token relations, head by head.

Source: Wang et al. 2021, MiniLMv2, arXiv:2012.15828, multi-head relations;
queries with keys (QK) are the attention transfer of MiniLM, Wang et al. 2020,
arXiv:2002.10957.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..activations import Activations, Needs
from ..architectures import Shape
from ..batch import Batch
from ..student.projections import Projections
from .contract import Fault, required
from .layer_names import LayerName, layer_fault, layer_number
from .relation_divergence import relation_divergence

_LETTERS = {"Q": "queries", "K": "keys", "V": "values"}


@dataclass(frozen=True)
class Relations:
    """Divergence of relations between tokens, summed over real tokens.

    Attributes:
        teacher_layer: A number, ``last`` or ``last-1``; for large teachers one
            or two below the last is often better.
        student_layer: Likewise. With the last one, its attention output and
            feed-forward get no gradient and stay as they were initialised.
        pairs: Weight of each relation; any pair of Q, K and V.
        heads: Relation heads that both models' vectors are cut into; by default
            the largest number up to 48 that divides both widths.
    """

    teacher_layer: LayerName = "last"
    student_layer: LayerName = "last"
    pairs: Mapping[str, float] = field(default_factory=lambda: {"QQ": 1.0, "KK": 1.0, "VV": 1.0})
    heads: int | None = None
    unit: ClassVar[str] = "nats per token, averaged over relation heads and summed over pairs"

    def faults(self, student: Shape, teacher: Shape | None) -> list[Fault]:
        """Layers that do not exist, heads that do not divide, unknown pairs, or no teacher."""
        if teacher is None:
            return [("", "needs a teacher; give one, or use `labels`")]
        found = layer_fault("teacher_layer", self.teacher_layer, teacher.layers)
        found += layer_fault("student_layer", self.student_layer, student.layers)
        valid = relation_head_choices(student.hidden, teacher.hidden)
        if self.heads is not None and self.heads not in valid:
            found.append(
                (
                    "heads",
                    f"is {self.heads}, which does not divide both the student's hidden size"
                    f" {student.hidden} and the teacher's {teacher.hidden}; use one of {valid}",
                )
            )
        if not self.pairs:
            found.append(("pairs", "is empty; name at least one, as {VV: 1.0}"))
        for pair, weight in self.pairs.items():
            if len(pair) != 2 or not set(pair) <= set(_LETTERS):
                found.append((f"pairs.{pair}", "is no pair of Q, K and V, as QQ, KK, VV or QK"))
            if weight <= 0:
                found.append(
                    (f"pairs.{pair}", f"weighs {weight}; leave it out or weigh it above 0")
                )
        return found

    def bound(self, student: Shape, teacher: Shape | None) -> "Relations":
        """With numbers for layers and relation heads."""
        teacher = required(teacher)
        valid = relation_head_choices(student.hidden, teacher.hidden)
        return replace(
            self,
            teacher_layer=layer_number(self.teacher_layer, teacher.layers),
            student_layer=layer_number(self.student_layer, student.layers),
            heads=self.heads or max(n for n in valid if n <= 48),
        )

    def student_needs(self) -> Needs:
        """The queries, keys and values that the pairs name."""
        return self._needs(int(self.student_layer))

    def teacher_needs(self) -> Needs:
        """The same of the teacher."""
        return self._needs(int(self.teacher_layer))

    def _needs(self, layer: int) -> Needs:
        letters = "".join(self.pairs)
        here, none = frozenset({layer}), frozenset[int]()
        return Needs(
            queries=here if "Q" in letters else none,
            keys=here if "K" in letters else none,
            values=here if "V" in letters else none,
        )

    def projection_sizes(self, student: Shape, teacher: Shape | None) -> dict[str, tuple[int, int]]:
        """None: relations have the same size whatever the width."""
        return {}

    def layer_pairs(self) -> list[tuple[int, int]]:
        """The one pair of layers."""
        return [(int(self.student_layer), int(self.teacher_layer))]

    def count(self, batch: Batch) -> int:
        """Real tokens."""
        return int(batch.student.mask.sum())

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Nats, averaged over relation heads, summed over real tokens and weighted pairs."""
        mask = batch.student.mask
        total = torch.zeros((), device=mask.device)
        for pair, weight in self.pairs.items():
            left, right = (_LETTERS[letter] for letter in pair)
            divergence = relation_divergence(
                getattr(student, left)[self.student_layer],
                getattr(student, right)[self.student_layer],
                getattr(teacher, left)[self.teacher_layer],
                getattr(teacher, right)[self.teacher_layer],
                mask,
                relation_heads=int(self.heads or 1),
            )
            total = total + weight * divergence
        return total


def relation_head_choices(student_width: int, teacher_width: int) -> list[int]:
    """Numbers of relation heads that divide both widths, ascending.

    >>> relation_head_choices(36, 24)
    [1, 2, 3, 4, 6, 12]
    """
    smaller = min(student_width, teacher_width)
    return [n for n in range(1, smaller + 1) if student_width % n == 0 == teacher_width % n]
