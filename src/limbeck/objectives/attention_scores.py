"""The student attends where its teacher attends: attention scores before the softmax, compared.

The scores are computed from captured queries and keys, so neither model has to return its
attentions; with rotary positions they are the scores before the rotation. Where the models
have different numbers of heads, both are split into a number of heads that divides both.

Source: Jiao et al. 2020, TinyBERT, arXiv:1909.10351.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..activations import Activations, Needs
from ..batch import Batch
from ..errors import Problem
from ..models.shapes import Shape
from ..student.projections import Projections
from .contract import Objective, required
from .layer_mapping import bound_links, layer_links, map_problems_between
from .options import AttentionScoresOptions
from .relations import query_head_sizes, relation_head_choices, repeat_heads
from .token_pairs import compared_pairs, score_difference


@dataclass(frozen=True)
class AttentionScores(AttentionScoresOptions, Objective):
    """Squared difference of attention scores, summed over real tokens and layer pairs.

    Attributes:
        head_sizes: Widths of an attention head of student and teacher, where
            several query heads share their keys; by default those of the models.
    """

    head_sizes: tuple[int, int] | None = None
    unit: ClassVar[str] = "squared difference per token, averaged over heads and attended tokens"

    def problems_between(self, student: Shape, teacher: Shape) -> list[Problem]:
        """Layers that do not exist, or heads that do not divide."""
        found = map_problems_between(
            self.layers, student.num_hidden_layers, teacher.num_hidden_layers
        )
        valid = relation_head_choices(student.query_width, teacher.query_width)
        if (self.heads or 0) >= 1 and self.heads not in valid:
            found.append(("heads", f"is {self.heads}; to divide both widths use one of {valid}"))
        return found

    def bound(self, student: Shape, teacher: Shape | None) -> "AttentionScores":
        """The same objective with layers and heads as numbers."""
        teacher = required(teacher)
        return replace(
            self,
            layers=dict(
                layer_links(self.layers, student.num_hidden_layers, teacher.num_hidden_layers)
            ),
            heads=self.heads or math.gcd(student.num_attention_heads, teacher.num_attention_heads),
            causal=student.causal or teacher.causal if self.causal is None else self.causal,
            head_sizes=self.head_sizes or query_head_sizes(student, teacher),
        )

    def student_needs(self) -> Needs:
        """Queries and keys of the named student layers."""
        here = frozenset(link.student for link in bound_links(self.layers))
        return Needs(queries=here, keys=here)

    def teacher_needs(self) -> Needs:
        """Queries and keys of the named teacher layers."""
        here = frozenset(layer for link in bound_links(self.layers) for layer in link.teachers)
        return Needs(queries=here, keys=here)

    def layer_pairs(self) -> list[tuple[int, int]]:
        """All pairs of layers, as (student, teacher)."""
        return [
            (link.student, layer) for link in bound_links(self.layers) for layer in link.teachers
        ]

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Squared difference, averaged over heads and attended tokens, summed over real tokens."""
        mask = batch.student.mask
        total = torch.zeros((), device=mask.device)
        for mine, theirs in self.layer_pairs():
            total = total + compared_pairs(
                *self._sides(student, mine, 0),
                *self._sides(teacher, theirs, 1),
                mask,
                loss=score_difference,
                heads=int(self.heads or 1),
                causal=bool(self.causal),
                documents=batch.student.documents,
                padded=not batch.student.all_real,
            )
        return total

    def _sides(self, model: Activations, layer: int, whose: int) -> tuple[Tensor, Tensor]:
        queries, keys = model.queries[layer], model.keys[layer]
        size = self.head_sizes[whose] if self.head_sizes else 1
        return queries, repeat_heads(keys, queries.shape[-1], size)
