"""The student keeps the teacher's token-to-token relations, head by head.

Queries with keys (QK) are the attention itself. MiniLM transfers QK and values with values (VV);
MiniLMv2 transfers QQ, KK and VV.

Source: Wang et al. 2020, MiniLM, arXiv:2002.10957; Wang et al. 2021, MiniLMv2,
arXiv:2012.15828.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..activations import Activations, Needs
from ..batch import Batch
from ..errors import Problem
from ..models.shapes import Shape
from ..student.projections import Projections
from .contract import Objective, required
from .layer_names import layer_number, layer_problem
from .options import RelationsOptions
from .token_pairs import compared_pairs, relation_divergence

MOST_HEADS = 48
_MOST_OF_LARGE = 64
_LARGE = 1024  # width of a teacher
_LETTERS = {"Q": "queries", "K": "keys", "V": "values"}


@dataclass(frozen=True)
class Relations(RelationsOptions, Objective):
    """Divergence of relations between tokens, summed over real tokens.

    Attributes:
        head_sizes: Widths of an attention head of student and teacher, where
            several query heads share their keys; by default those of the models.
    """

    head_sizes: tuple[int, int] | None = None
    unit: ClassVar[str] = "nats per token, averaged over relation heads and summed over pairs"

    def problems_between(self, student: Shape, teacher: Shape) -> list[Problem]:
        """Layers that do not exist, or heads that do not divide."""
        found = layer_problem("teacher_layer", self.teacher_layer, teacher.num_hidden_layers)
        found += layer_problem("student_layer", self.student_layer, student.num_hidden_layers)
        valid = self._head_choices(student, teacher)
        if (self.heads or 0) >= 1 and self.heads not in valid:
            widths = ", ".join(map(str, sorted(self._widths(student, teacher))))
            found.append(
                (
                    "heads",
                    f"is {self.heads}, which does not divide every width ({widths}) of the"
                    f" student's and the teacher's queries, keys and values; use one of {valid}",
                )
            )
        return found

    def bound(self, student: Shape, teacher: Shape | None) -> "Relations":
        """The same objective with layers and relation heads as numbers."""
        teacher = required(teacher)
        valid = self._head_choices(student, teacher)
        return replace(
            self,
            teacher_layer=layer_number(self.teacher_layer, teacher.num_hidden_layers),
            student_layer=layer_number(self.student_layer, student.num_hidden_layers),
            heads=self.heads or max(n for n in valid if n <= self._most_heads(student, teacher)),
            causal=student.causal or teacher.causal if self.causal is None else self.causal,
            head_sizes=self.head_sizes or query_head_sizes(student, teacher),
        )

    def _most_heads(self, student: Shape, teacher: Shape) -> int:
        if any(set(pair) == {"Q", "K"} for pair in self.pairs):
            return math.gcd(student.num_attention_heads, teacher.num_attention_heads)
        return _MOST_OF_LARGE if teacher.hidden_size >= _LARGE else MOST_HEADS

    def _head_choices(self, student: Shape, teacher: Shape) -> list[int]:
        return relation_head_choices(*sorted(self._widths(student, teacher)))

    def _widths(self, student: Shape, teacher: Shape) -> set[int]:
        """The widths that the pairs compare; keys that query heads share are repeated for them."""
        wide = any("Q" in pair for pair in self.pairs) or not self.pairs
        narrow = any("Q" not in pair for pair in self.pairs)
        widths: set[int] = set()
        for shape in (student, teacher):
            widths |= {shape.query_width} if wide else set()
            widths |= {shape.key_width} if narrow else set()
        return widths

    def student_needs(self) -> Needs:
        """The queries, keys and values that the pairs name."""
        return self._needs(int(self.student_layer))

    def teacher_needs(self) -> Needs:
        """The teacher's queries, keys and values that the pairs name."""
        return self._needs(int(self.teacher_layer))

    def _needs(self, layer: int) -> Needs:
        letters = "".join(self.pairs)
        here, none = frozenset({layer}), frozenset[int]()
        return Needs(
            queries=here if "Q" in letters else none,
            keys=here if "K" in letters else none,
            values=here if "V" in letters else none,
        )

    def layer_pairs(self) -> list[tuple[int, int]]:
        """The one pair of layers."""
        return [(int(self.student_layer), int(self.teacher_layer))]

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Nats, averaged over relation heads, summed over real tokens and weighted pairs."""
        mask = batch.student.mask
        total = torch.zeros((), device=mask.device)
        for pair, weight in self.pairs.items():
            divergence = compared_pairs(
                *self._vectors(student, pair, int(self.student_layer), 0),
                *self._vectors(teacher, pair, int(self.teacher_layer), 1),
                mask,
                loss=relation_divergence,
                heads=int(self.heads or 1),
                causal=bool(self.causal),
                documents=batch.student.documents,
                padded=not batch.student.all_real,
            )
            total = total + weight * divergence
        return total

    def _vectors(
        self, model: Activations, pair: str, layer: int, whose: int
    ) -> tuple[Tensor, Tensor]:
        left, right = (getattr(model, _LETTERS[letter])[layer] for letter in pair)
        if pair[0] == pair[1] or left.shape[-1] == right.shape[-1] or self.head_sizes is None:
            return left, right
        size, width = self.head_sizes[whose], max(left.shape[-1], right.shape[-1])
        return repeat_heads(left, width, size), repeat_heads(right, width, size)


def query_head_sizes(student: Shape, teacher: Shape) -> tuple[int, int]:
    """Widths of a query head of student and teacher."""
    return (
        student.query_width // student.num_attention_heads,
        teacher.query_width // teacher.num_attention_heads,
    )


def repeat_heads(
    vectors: Float[Tensor, "batch tokens narrow"], width: int, head_size: int
) -> Float[Tensor, "batch tokens wide"]:
    """Repeat each head as often as query heads share it, up to the width of the queries."""
    times = width // vectors.shape[-1]
    if times == 1:
        return vectors
    heads = vectors.reshape(*vectors.shape[:2], -1, head_size)
    return heads.repeat_interleave(times, dim=2).flatten(2)


def relation_head_choices(*widths: int) -> list[int]:
    """Numbers of relation heads that divide every width, ascending.

    >>> relation_head_choices(36, 24)
    [1, 2, 3, 4, 6, 12]
    """
    common = math.gcd(*widths)
    return [n for n in range(1, common + 1) if common % n == 0]
