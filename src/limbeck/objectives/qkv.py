"""The student's queries, keys and values learn to equal the teacher's, after a learned map.

`relations` compares the relations between tokens in these vectors; here the vectors themselves
are compared, head by head.

Source: DirectMiniLM, Udagawa et al. 2023, arXiv:2310.08797.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from ..activations import Activations, Needs
from ..batch import Batch
from ..errors import Problem
from ..models.shapes import Shape
from ..student.projections import MapSize
from .contract import required
from .layer_names import layer_number, layer_problem
from .mapped import Compared, MappedObjective, real_rows
from .options import QkvOptions
from .relations import MOST_HEADS, relation_head_choices

_KINDS = ("queries", "keys", "values")


@dataclass(frozen=True)
class Qkv(QkvOptions, MappedObjective):
    """Squared difference of queries, keys and values, summed over real tokens."""

    unit: ClassVar[str] = "distance per token, averaged over coordinates, summed over Q, K and V"

    def problems_between(self, student: Shape, teacher: Shape) -> list[Problem]:
        """Layers that do not exist, or heads that do not divide."""
        found = layer_problem("teacher_layer", self.teacher_layer, teacher.num_hidden_layers)
        found += layer_problem("student_layer", self.student_layer, student.num_hidden_layers)
        valid = _head_choices(student, teacher)
        if (self.heads or 0) >= 1 and self.heads not in valid:
            found.append(("heads", f"is {self.heads}; to divide every width use one of {valid}"))
        return found

    def bound(self, student: Shape, teacher: Shape | None) -> "Qkv":
        """The same objective with layers and heads as numbers."""
        teacher = required(teacher)
        return replace(
            self,
            teacher_layer=layer_number(self.teacher_layer, teacher.num_hidden_layers),
            student_layer=layer_number(self.student_layer, student.num_hidden_layers),
            heads=self.heads or max(n for n in _head_choices(student, teacher) if n <= MOST_HEADS),
        )

    def student_needs(self) -> Needs:
        """Queries, keys and values of the student's layer."""
        here = frozenset({int(self.student_layer)})
        return Needs(queries=here, keys=here, values=here)

    def teacher_needs(self) -> Needs:
        """Queries, keys and values of the teacher's layer."""
        here = frozenset({int(self.teacher_layer)})
        return Needs(queries=here, keys=here, values=here)

    def projection_sizes(self, student: Shape, teacher: Shape | None) -> dict[str, MapSize]:
        """One map each for queries, keys and values, where the widths differ."""
        wide, heads = required(teacher), int(self.heads or 1)
        widths = {
            "queries": (student.query_width, wide.query_width),
            "keys": (student.key_width, wide.key_width),
            "values": (student.key_width, wide.key_width),
        }
        return {
            _name(kind): MapSize(mine, theirs, heads)
            for kind, (mine, theirs) in widths.items()
            if mine != theirs
        }

    def layer_pairs(self) -> list[tuple[int, int]]:
        """The one pair of layers."""
        return [(int(self.student_layer), int(self.teacher_layer))]

    def compared(
        self, student: Activations, teacher: Activations, batch: Batch
    ) -> Iterator[Compared]:
        """Queries with queries, keys with keys, values with values."""
        rows = real_rows(batch.student)
        for kind in _KINDS:
            state = rows(getattr(student, kind)[int(self.student_layer)])
            target = rows(getattr(teacher, kind)[int(self.teacher_layer)])
            yield Compared(_name(kind), state, target)


def _head_choices(student: Shape, teacher: Shape) -> list[int]:
    shapes = (student, teacher)
    return relation_head_choices(*(w for s in shapes for w in (s.query_width, s.key_width)))


def _name(kind: str) -> str:
    return f"vectors_{kind}"
