"""What the loop asks of every objective: what it needs, on how many items, and their sum.

An objective never divides by its items. The loop divides once, over all
micro-batches and processes of the step, so that cutting a step differently
gives the same gradients.
"""

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from ..activations import Activations, Needs
from ..batch import Batch
from ..errors import ObjectiveError, Problem
from ..models.shapes import Shape
from ..student.projections import MapSize, Projections


@runtime_checkable
class Objective(Protocol):
    """A frozen dataclass whose fields are the options that a recipe may set.

    Without a word of its own it has no learned map, links no single layers, and is
    counted over real tokens.

    Attributes:
        unit: Unit of one item, for logs and plots.
    """

    unit: ClassVar[str]

    def problems_with(self, student: Shape, teacher: Shape | None) -> list[Problem]:
        """Everything that makes it impossible between two models of these shapes."""
        ...

    def bound(self, student: Shape, teacher: Shape | None) -> "Objective":
        """The same objective with every default and layer name made a number.

        Only a bound objective is asked anything of what follows.
        """
        ...

    def student_needs(self) -> Needs:
        """What it reads of the student."""
        ...

    def teacher_needs(self) -> Needs:
        """What it reads of the teacher; nothing if it can do without one."""
        ...

    def projection_sizes(self, student: Shape, teacher: Shape | None) -> dict[str, MapSize]:
        """Every learned map that it uses, by name."""
        return {}

    def layer_pairs(self) -> list[tuple[int, int]]:
        """Which student layer learns from which teacher layer, as (student, teacher)."""
        return []

    def count(self, batch: Batch) -> int:
        """How many items the total is summed over, from the batch alone; padding never counts."""
        return int(batch.student.mask.sum())

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """The sum over the items, float32, with gradients to the student and projections only."""
        ...


def no_teacher(teacher: Shape | None) -> list[Problem]:
    """The problem of having no teacher, where an objective cannot do without one."""
    return [("", "needs a teacher; give one, or use `labels`")] if teacher is None else []


def required(teacher: Shape | None) -> Shape:
    """The teacher's shape, where an objective cannot do without one.

    Raises:
        ObjectiveError: There is no teacher.
    """
    if teacher is None:
        raise ObjectiveError("this objective needs a teacher; give one, or use `labels`")
    return teacher
