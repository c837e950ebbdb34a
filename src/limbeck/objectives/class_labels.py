"""The student of a task learns the class of each row: the given one, or its teacher's choice.

With ``labels_from: gold`` this objective needs no teacher: alone in a stage it is plain
fine-tuning, and the control of a distillation. With ``teacher`` it is the other control: all that
soft targets say beyond the most likely class is left out.

Source: Devlin et al. 2019, BERT, arXiv:1810.04805; a teacher's choices as labels, Lee 2013,
Pseudo-Label, ICML workshop on challenges in representation learning.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ..activations import Activations, Needs, float32_region
from ..batch import UNLABELED, Batch, Tokens, places_of
from ..errors import ObjectiveError, Problem
from ..models.shapes import Shape
from ..student.projections import Projections
from .class_logits import NO_HEAD, ClassLogits, both_logits
from .class_options import ClassLabelsOptions
from .contract import Objective


@dataclass(frozen=True)
class ClassLabels(ClassLabelsOptions, Objective):
    """Cross-entropy against classes, summed over texts or words; of scores, squared error.

    Attributes:
        columns: As for `ClassLogits`.
        multi_label: Whether the classes do not exclude one another: each is learned as one that
            holds or does not.
    """

    columns: tuple[int, ...] | None = None
    multi_label: bool = False
    unit: ClassVar[str] = "nats per labelled text or word; of scores, squares"

    def problems_with(self, student: Shape, teacher: Shape | None) -> list[Problem]:
        """Heads that are missing; a teacher only where its choices are learned."""
        if self.labels_from == "gold":
            return [] if student.labels else [("", NO_HEAD)]
        if teacher is None:
            return [("labels_from", "is teacher, and there is none; name one, or take gold")]
        found = ClassLogits().problems_between(student, teacher)
        if not found and len(student.labels) == 1 and not student.multi_label:
            return [("labels_from", "is teacher, whose scores `class_logits` learns; use that")]
        return found

    def bound(self, student: Shape, teacher: Shape | None) -> "ClassLabels":
        """The same objective with the teacher's logit of each class."""
        bound = replace(self, multi_label=student.multi_label)
        if self.labels_from == "gold":
            return bound
        return replace(bound, columns=ClassLogits().bound(student, teacher).columns)

    def student_needs(self) -> Needs:
        """Logits of the task's head."""
        return Needs(class_logits=True)

    def teacher_needs(self) -> Needs:
        """Those of the teacher's too, where its choices are learned."""
        return Needs(class_logits=self.labels_from == "teacher")

    def count(self, batch: Batch) -> int:
        """Texts, or words, whose class is known."""
        tokens = batch.student
        if self.labels_from == "teacher":
            return int(tokens.predicted.sum())
        return int(_labelled(tokens).sum())

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Nats, or squared differences, summed over what has a label."""
        if student.class_logits is None:
            raise ObjectiveError("class labels need the student's class logits; none were captured")
        if self.labels_from == "teacher":
            mine, theirs = both_logits(student, teacher, self.columns)
            if self.multi_label:
                held = (theirs > 0).float()
                return binary_cross_entropy_with_logits(mine, held, reduction="sum")
            return cross_entropy(mine, theirs.argmax(-1), reduction="sum")
        tokens = batch.student
        known = places_of(_labelled(tokens.here), tokens.mask.device)
        with float32_region(student.class_logits):
            mine = student.class_logits.float()[known]
            if tokens.multi_hot is not None:
                held = tokens.multi_hot[known]
                return binary_cross_entropy_with_logits(mine, held, reduction="sum")
            if tokens.scores is not None:
                scores = tokens.at_predicted(tokens.scores)[known]
                return (mine.squeeze(-1) - scores.float()).square().sum()
            classes = tokens.at_predicted(tokens.labels)[known]
            return cross_entropy(mine, classes, reduction="sum")


def _labelled(tokens: Tokens) -> Bool[Tensor, " predicted"]:
    """Which of the texts or words have a label."""
    if tokens.multi_hot is not None:
        return tokens.multi_hot.isfinite().all(-1)
    if tokens.scores is not None:
        return tokens.at_predicted(tokens.scores).isfinite()
    return tokens.at_predicted(tokens.labels) != UNLABELED
