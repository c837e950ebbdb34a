"""The student's hidden states learn to equal the teacher's, layer by layer.

Where the widths differ, a learned linear map takes the student's state to the
teacher's width.

Source: Romero et al. 2015, FitNets, arXiv:1412.6550; for Transformers Jiao et al. 2020,
TinyBERT, arXiv:1909.10351; with several teacher layers at once Udagawa et al. 2023,
arXiv:2310.08797; by direction alone Sanh et al. 2019, DistilBERT, arXiv:1910.01108.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..activations import Activations, Needs
from ..batch import Batch
from ..errors import Problem
from ..models.shapes import Shape
from ..student.projections import MapSize
from .contract import required
from .layer_mapping import Link, bound_links, layer_links, map_problems_between
from .mapped import Compared, MappedObjective, real_rows
from .options import Combine, HiddenStatesOptions


@dataclass(frozen=True)
class HiddenStates(HiddenStatesOptions, MappedObjective):
    """Distance of hidden states, summed over real tokens and layer pairs."""

    unit: ClassVar[str] = "distance per token, averaged over coordinates, summed over layer pairs"

    def problems_between(self, student: Shape, teacher: Shape) -> list[Problem]:
        """Layers that do not exist or are named twice."""
        return map_problems_between(
            self.layers, student.num_hidden_layers, teacher.num_hidden_layers
        )

    def bound(self, student: Shape, teacher: Shape | None) -> "HiddenStates":
        """The same objective with the teacher layers of every student layer listed."""
        links = layer_links(
            self.layers, student.num_hidden_layers, required(teacher).num_hidden_layers
        )
        joined: Combine = "concatenate" if self.layers == "uniform+top" else "mean"
        if all(len(link.teachers) == 1 for link in links):
            joined = "each"  # nothing to combine, so that layer maps with the same links are equal
        return replace(self, layers=dict(links), combine=self.combine or joined)

    def student_needs(self) -> Needs:
        """Hidden states of the named student layers."""
        return Needs(hidden=frozenset(link.student for link in bound_links(self.layers)))

    def teacher_needs(self) -> Needs:
        """Hidden states of the named teacher layers."""
        return Needs(
            hidden=frozenset(t for link in bound_links(self.layers) for t in link.teachers)
        )

    def projection_sizes(self, student: Shape, teacher: Shape | None) -> dict[str, MapSize]:
        """One map for each comparison, or one for each width, where the widths differ."""
        sizes = {}
        for link in bound_links(self.layers):
            for teachers in self._together(link):
                width = required(teacher).hidden_size
                width *= len(teachers) if self.combine == "concatenate" else 1
                if width != student.hidden_size:
                    sizes[self._name(link.student, teachers)] = MapSize(student.hidden_size, width)
        return sizes

    def layer_pairs(self) -> list[tuple[int, int]]:
        """All pairs of layers, as (student, teacher), with one pair for every teacher layer."""
        return [
            (link.student, teacher)
            for link in bound_links(self.layers)
            for teacher in link.teachers
        ]

    def compared(
        self, student: Activations, teacher: Activations, batch: Batch
    ) -> Iterator[Compared]:
        """Every student layer with its teacher layers, together or one by one."""
        rows = real_rows(batch.student)
        for link in bound_links(self.layers):
            state = rows(student.hidden[link.student])
            for teachers in self._together(link):
                target = _joined([rows(teacher.hidden[layer]) for layer in teachers], self.combine)
                yield Compared(self._name(link.student, teachers), state, target)

    def _together(self, link: Link) -> list[tuple[int, ...]]:
        one_by_one = self.combine == "each"
        return [(layer,) for layer in link.teachers] if one_by_one else [link.teachers]

    def _name(self, student: int, teachers: tuple[int, ...]) -> str:
        if self.projection == "shared":
            joined = len(teachers) if self.combine == "concatenate" else 1
            return f"hidden_shared_{joined}"
        return f"hidden_{student}_to_{'_'.join(map(str, teachers))}"


def _joined(states: Sequence[Tensor], combine: Combine | None) -> Tensor:
    if combine == "concatenate":
        return torch.cat(list(states), dim=-1)
    return (
        states[0] if len(states) == 1 else torch.stack([state.float() for state in states]).mean(0)
    )
