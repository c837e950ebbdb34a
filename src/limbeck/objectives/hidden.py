"""The student's hidden states come to lie where the teacher's lie, layer by layer.

Where the widths differ, a learned linear map carries the student's state to the
teacher's width.

Source: Romero et al. 2015, FitNets, arXiv:1412.6550; for Transformers Jiao et
al. 2020, TinyBERT, arXiv:1909.10351.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..activations import Activations, Needs, float32_region
from ..architectures import Shape
from ..batch import Batch
from ..student.projections import Projections
from .contract import Fault, required
from .layer_names import LayerName, layer_fault, layer_number


@dataclass(frozen=True)
class Hidden:
    """Mean squared error of hidden states, summed over real tokens and layer pairs.

    Attributes:
        layers: Teacher layer of every student layer that learns, both by number
            or name (``last``, ``last-1``).
    """

    layers: Mapping[LayerName, LayerName] = field(default_factory=lambda: {"last": "last"})
    unit: ClassVar[str] = "squared difference per coordinate and token, summed over layer pairs"

    def faults(self, student: Shape, teacher: Shape | None) -> list[Fault]:
        """Layers that do not exist, or no teacher."""
        if teacher is None:
            return [("", "needs a teacher; give one, or use `labels`")]
        if not self.layers:
            return [("layers", "is empty; name at least one pair, as {last: last}")]
        found = []
        for student_layer, teacher_layer in self.layers.items():
            found += layer_fault("layers (student)", student_layer, student.layers)
            found += layer_fault("layers (teacher)", teacher_layer, teacher.layers)
        return found

    def bound(self, student: Shape, teacher: Shape | None) -> "Hidden":
        """With numbers for layers."""
        teacher = required(teacher)
        numbers: dict[LayerName, LayerName] = {
            layer_number(s, student.layers): layer_number(t, teacher.layers)
            for s, t in self.layers.items()
        }
        return replace(self, layers=numbers)

    def student_needs(self) -> Needs:
        """Hidden states of the student layers named."""
        return Needs(hidden=frozenset(s for s, _ in self.layer_pairs()))

    def teacher_needs(self) -> Needs:
        """Hidden states of the teacher layers named."""
        return Needs(hidden=frozenset(t for _, t in self.layer_pairs()))

    def projection_sizes(self, student: Shape, teacher: Shape | None) -> dict[str, tuple[int, int]]:
        """One map a pair, where the widths differ."""
        if teacher is None or student.hidden == teacher.hidden:
            return {}
        return {_name(pair): (student.hidden, teacher.hidden) for pair in self.layer_pairs()}

    def layer_pairs(self) -> list[tuple[int, int]]:
        """(student, teacher)."""
        return [(int(s), int(t)) for s, t in self.layers.items()]

    def count(self, batch: Batch) -> int:
        """Real tokens."""
        return int(batch.student.mask.sum())

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Squared difference, averaged over coordinates, summed over real tokens and pairs."""
        mask = batch.student.mask
        pairs = self.layer_pairs()
        with float32_region(mask):
            total = torch.zeros((), device=mask.device)
            for pair in pairs:
                state = projections(_name(pair), student.hidden[pair[0]][mask].float())
                target = teacher.hidden[pair[1]][mask].detach().float()
                total = total + (state - target).square().mean(dim=-1).sum()
        return total


def _name(pair: tuple[int, int]) -> str:
    return f"hidden_{pair[0]}_to_{pair[1]}"
