"""A stage is one stretch of training: its objectives, its length and its optimizer's settings."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..activations import Activations, Needs, capture
from ..architectures import Anatomy
from ..batch import Batch
from ..objectives.contract import Objective
from ..objectives.labels import label_loss
from ..objectives.schedule import Ramp, at_progress, number
from ..student.mixed_vocabulary import MixedVocabulary
from ..student.projections import Projections


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with a linear warm-up, then decay to zero or a constant rate.

    Attributes:
        learning_rate: At its highest.
        warmup_share: Share of the stage's steps in which the rate rises from zero.
        decay: ``linear``, ``cosine`` or ``constant``.
        weight_decay: On matrices only; norms and biases are spared.
        clip_norm: Gradients are scaled down to this norm.
        beta2: AdamW's memory of squared gradients.
    """

    learning_rate: float = 5e-4
    warmup_share: float = 0.05
    decay: str = "linear"
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    beta2: float = 0.98


@dataclass(frozen=True)
class Stage:
    """What the loop is given.

    Attributes:
        name: For logs.
        objectives: By name, bound to the shapes of student and teacher.
        weights: Of the same names; numbers, or ramps over the stage.
        steps: Optimizer steps.
        batch_size: Sequences in a step, over all micro-batches and processes.
        micro_batch_size: Sequences in one forward and backward.
        optimizer: Its settings.
        dropout: Train with the student's dropout.
        head_only: Train nothing of the student but its vocabulary head; a table
            that the head shares with the embeddings stays as it is.
        mixed: The teacher's body is trained on both vocabularies, and of the
            student its embedding table; the number is the share of words that the
            student's vocabulary cuts.
    """

    name: str
    objectives: Mapping[str, Objective]
    weights: Mapping[str, float | Ramp]
    steps: int
    batch_size: int
    micro_batch_size: int
    optimizer: OptimizerSettings
    dropout: bool = False
    head_only: bool = False
    mixed: float | Ramp | None = None

    def weights_at(self, progress: float) -> dict[str, float]:
        """The weights when that share of the stage is done."""
        return {name: number(weight, progress) for name, weight in self.weights.items()}

    def progress(self, step: int) -> float:
        """The share of the stage that is done before a step; 1 at its last step."""
        return min(1.0, step / max(1, self.steps - 1))

    def student_needs(self) -> Needs:
        """The union over the objectives."""
        needs = Needs()
        for objective in self.objectives.values():
            needs |= objective.student_needs()
        return needs

    def teacher_needs(self) -> Needs:
        """The union over the objectives; nothing if none of them needs a teacher."""
        needs = Needs()
        for objective in self.objectives.values():
            needs |= objective.teacher_needs()
        return needs


class Learner(nn.Module):
    """All that is trained: the student, and the projections that stand beside it.

    One module, so that gradient synchronisation and autocast wrap it as a whole.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        projections: Projections,
        anatomy: Anatomy,
        objectives: Mapping[str, Objective],
    ) -> None:
        super().__init__()
        self.student = student
        self.projections = projections
        self.anatomy = anatomy
        self.objectives = objectives
        self.needs = Needs()
        for objective in objectives.values():
            self.needs |= objective.student_needs()

    def forward(
        self, batch: Batch, teacher: Activations, progress: float = 1.0
    ) -> dict[str, Tensor]:
        """The total of every objective on the batch.

        Args:
            batch: What both models read.
            teacher: What the objectives need of it.
            progress: Share of the stage that is done, for options that change with it.
        """
        student = capture(self.student, self.anatomy, batch.student, self.needs)
        return {
            name: at_progress(objective, progress).total(student, teacher, batch, self.projections)
            for name, objective in self.objectives.items()
        }


class MixedLearner(nn.Module):
    """What is trained in a mixed stage: the teacher on both vocabularies, the student's table."""

    def __init__(self, student: PreTrainedModel, mixed: MixedVocabulary) -> None:
        super().__init__()
        self.student = student
        self.mixed = mixed
        student.requires_grad_(False)
        mixed.embedding.student.requires_grad_(True)

    def forward(
        self, batch: Batch, teacher: Activations, progress: float = 1.0
    ) -> dict[str, Tensor]:
        """The cross-entropy of the predicted pieces of both kinds, as `Learner` gives totals."""
        of_teacher, of_student = self.mixed.predictions(batch.student)
        labels = batch.student.labels[batch.student.predicted]
        first = self.mixed.embedding.student_from
        is_student = labels >= first
        total = label_loss(of_teacher, labels[~is_student])
        return {"labels": total + label_loss(of_student, labels[is_student] - first)}
