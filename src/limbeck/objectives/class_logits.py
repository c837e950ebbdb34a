"""The student of a task learns the probabilities that its teacher gives to the classes.

Of a tagger, the probabilities at the first token of every word; where classes do not exclude one
another, of each class the probabilities that it holds and that it does not; of a model that gives a
number, that number.

Source: Hinton et al. 2015, arXiv:1503.02531; for Transformers that were fine-tuned on a task, Tang
et al. 2019, arXiv:1903.12136, and Jiao et al. 2020, TinyBERT, arXiv:1909.10351.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..activations import Activations, Needs, float32_region
from ..batch import Batch
from ..errors import ObjectiveError, Problem
from ..models.shapes import Shape
from ..models.task_heads import listed
from ..student.projections import Projections
from .class_options import ClassLogitsOptions
from .contract import Objective, required
from .divergences import Distribution, divergence_of
from .schedule import number

NO_HEAD = (
    "needs rows with labels (`data.task`), or a teacher with the head of a task that labels rows"
    " without any (`data.rows`)"
)


@dataclass(frozen=True)
class ClassLogits(ClassLogitsOptions, Objective):
    """Divergence of class probabilities, summed over texts or words; of scores, squared error.

    Attributes:
        columns: The teacher's logit of each of the student's classes, matched by name; None where
            the order is the same.
        multi_label: Whether the classes do not exclude one another.
    """

    columns: tuple[int, ...] | None = None
    multi_label: bool = False
    unit: ClassVar[str] = "nats per text or word, times the temperature squared; of scores, squares"

    def problems_between(self, student: Shape, teacher: Shape) -> list[Problem]:
        """Heads that are missing, or whose labels are not the same."""
        if not student.labels:
            return [("", NO_HEAD)]
        if not teacher.labels:
            message = "needs a teacher with the head of a task; fine-tune it (`limbeck finetune`)"
            return [("", message)]
        if set(student.labels) != set(teacher.labels):
            sets = f"the student has {listed(student.labels)}, the teacher {listed(teacher.labels)}"
            return [("", f"matches labels by name, and they differ: {sets}")]
        if student.multi_label != teacher.multi_label:
            of = "the teacher's" if teacher.multi_label else "the student's"
            return [("", f"needs two heads of a kind, and {of} alone is a multi-label head")]
        if len(student.labels) > 1 or student.multi_label:
            return []
        plain = ClassLogitsOptions()
        return [
            (name, "is for classes, and the head gives a number; leave it out")
            for name in vars(plain)
            if getattr(self, name) != getattr(plain, name)
        ]

    def bound(self, student: Shape, teacher: Shape | None) -> "ClassLogits":
        """The same objective with the teacher's logit of each class."""
        theirs = required(teacher).labels
        bound = replace(self, multi_label=student.multi_label)
        if student.labels == theirs:
            return bound
        return replace(bound, columns=tuple(theirs.index(label) for label in student.labels))

    def student_needs(self) -> Needs:
        """Logits of the task's head."""
        return Needs(class_logits=True)

    def count(self, batch: Batch) -> int:
        """Texts, or words."""
        return int(batch.student.predicted.sum())

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Nats times the temperature squared, or squared differences, summed."""
        mine, theirs = both_logits(student, teacher, self.columns)
        if self.multi_label:
            mine, theirs = held_or_not(mine), held_or_not(theirs)
        elif mine.shape[-1] == 1:
            return (mine - theirs).square().sum()
        temperature = float(number(self.temperature))
        measure = divergence_of(self.divergence, self.divergence_options)
        of_student = Distribution.of_logits(mine.detach() / temperature)
        values, slope = measure(of_student, Distribution.of_logits(theirs / temperature))
        gradient = slope - of_student.probabilities * slope.sum(-1, keepdim=True)
        # By the chain rule the division above takes one T of T^2.
        total: Tensor = _WithGradient.apply(  # type: ignore[no-untyped-call]
            mine, values.sum() * temperature**2, gradient * temperature
        )
        return total


def both_logits(
    student: Activations, teacher: Activations, columns: tuple[int, ...] | None
) -> tuple[Tensor, Tensor]:
    """Logits of both in float32, the teacher's in the order of the student's classes.

    Raises:
        ObjectiveError: One of the two was not captured.
    """
    if student.class_logits is None or teacher.class_logits is None:
        raise ObjectiveError("class logits of student and teacher are needed, and were not given")
    with float32_region(student.class_logits):
        theirs = teacher.class_logits.detach().float()
        if columns is not None:
            theirs = theirs[:, list(columns)]
        return student.class_logits.float(), theirs


def held_or_not(
    logits: Float[Tensor, "texts classes"],
) -> Float[Tensor, "texts_by_classes held_or_not"]:
    """The logits of two answers for each class: that it holds, and that it does not.

    Their softmax is the sigmoid of the logit, and its rest.
    """
    return torch.stack([logits, torch.zeros_like(logits)], -1).flatten(0, 1)


class _WithGradient(torch.autograd.Function):
    """A value whose gradient by the logits was computed with it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * slope, None, None
