"""What every objective gives the loop: its needs, its number of items, and its sum over them.

An objective never divides by its items. The loop divides once, over all
micro-batches and processes of the step, so that the gradients do not depend on
how a step is split.
"""

from abc import abstractmethod
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from ..activations import Activations, Needs
from ..batch import Batch
from ..errors import ObjectiveError, Problem
from ..models.shapes import Shape
from ..student.projections import MapSize, Projections

_NO_TEACHER = "needs a teacher; give one, or use `labels` (of a task `class_labels`)"


@runtime_checkable
class Objective(Protocol):
    """A frozen dataclass whose fields are the options that a recipe may set.

    By default an objective has nothing that could be wrong, reads the same of a teacher as of the
    student, has no learned map, links no layers, and counts real tokens.

    Attributes:
        unit: Unit of one item, for logs and plots.
    """

    unit: ClassVar[str]

    def problems(self) -> list[Problem]:
        """What is wrong with the options, whatever the two models are."""
        return []

    def problems_between(self, student: Shape, teacher: Shape) -> list[Problem]:
        """What is wrong with the options between two models of these shapes."""
        return []

    def problems_with(self, student: Shape, teacher: Shape | None) -> list[Problem]:
        """Every problem of this objective, a missing teacher included; each is named once."""
        if teacher is None:
            return [("", _NO_TEACHER)]
        return list(dict.fromkeys([*self.problems(), *self.problems_between(student, teacher)]))

    def bound(self, student: Shape, teacher: Shape | None) -> "Objective":
        """The same objective with every default and layer name replaced by a number.

        All methods below are called on bound objectives only.
        """
        return self

    @abstractmethod
    def student_needs(self) -> Needs:
        """The activations of the student that the objective reads."""
        ...

    def teacher_needs(self) -> Needs:
        """The activations of the teacher that the objective reads; nothing without a teacher."""
        return self.student_needs()

    def projection_sizes(self, student: Shape, teacher: Shape | None) -> dict[str, MapSize]:
        """The sizes of every learned map that the objective uses, by name."""
        return {}

    def layer_pairs(self) -> list[tuple[int, int]]:
        """Which student layer learns from which teacher layer, as (student, teacher)."""
        return []

    def rows_together(self) -> int:
        """How many consecutive rows of a batch it compares with one another; 1 for none.

        Such a group of rows is always in one forward, so the sum over groups does not depend on how
        a step is split. The last group of a batch may be smaller.
        """
        return 1

    def count(self, batch: Batch) -> int:
        """How many items the total is summed over, from the batch alone; padding never counts."""
        return int(batch.student.mask.sum())

    @abstractmethod
    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """The sum over the items, float32, with gradients to the student and projections only.

        Raises:
            ObjectiveError: An activation that the objective needs is missing.
        """
        ...


def required(teacher: Shape | None) -> Shape:
    """The teacher's shape, for an objective that needs a teacher.

    Raises:
        ObjectiveError: There is no teacher.
    """
    if teacher is None:
        raise ObjectiveError(f"this objective {_NO_TEACHER}")
    return teacher


def compares_tokens(objective: Objective) -> bool:
    """Whether the objective compares tokens of both models, which may have to be aligned."""
    return objective.teacher_needs().of_tokens


def joint_needs(needs: Iterable[Needs]) -> Needs:
    """The union of several needs; nothing where there are none."""
    return reduce(or_, needs, Needs())
