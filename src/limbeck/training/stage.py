"""A stage of training: its objectives, its length and its optimizer's settings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..activations import Needs
from ..batch import Batch
from ..generation.batches import Policy
from ..objectives.contract import Objective, compares_tokens, joint_needs
from ..objectives.schedule import Ramp, number
from ..student.rounding_kinds import Rounding
from .settings import OptimizerSettings


@dataclass(frozen=True)
class Stage:
    """One stage of training, as the loop takes it.

    Attributes:
        name: Name in logs.
        objectives: Objectives by name, bound to the shapes of student and teacher.
        weights: Weights by the same names: numbers, or ramps over the stage.
        steps: Number of optimizer steps.
        batch_size: Sequences in a step, over all micro-batches and processes.
        micro_batch_size: Sequences in one forward and backward.
        optimizer: Settings of the optimizer.
        dropout: Whether to train with the student's dropout.
        trainable: ``all``; ``head``: only the student's vocabulary head, without a table
            that the head shares with the embeddings; ``low_rank``: only low-rank layers.
        alignment: Whether teacher and student tokenize text differently, and are
            compared where batches link their tokens.
        mixed: Whether the teacher's body is trained on both vocabularies, together with
            the student's embedding table: the fraction of words that are tokenized with the
            student's vocabulary, or None.
        policy: The policy that generates the text of the batches; None where text is read.
        projections: Initialization of learned maps: ``fitted`` to the stage's first batches
            by least squares, or ``random``.
        rows: Whether the rows of a task are read.
        rounding: How the student's layers compute with the rounded numbers of an exported file;
            None where they do not.
        seed: Decides all randomness within a step, such as dropout.
    """

    name: str
    objectives: Mapping[str, Objective]
    weights: Mapping[str, float | Ramp]
    steps: int
    batch_size: int
    micro_batch_size: int
    optimizer: OptimizerSettings
    dropout: bool = False
    trainable: Literal["all", "head", "low_rank"] = "all"
    alignment: bool = False
    mixed: float | Ramp | None = None
    policy: Policy | None = None
    projections: Literal["fitted", "random"] = "fitted"
    rows: bool = False
    rounding: Rounding | None = None
    seed: int = 0

    def weights_at(self, progress: float) -> dict[str, float]:
        """The weights when this share of the stage is done."""
        return {name: number(weight, progress) for name, weight in self.weights.items()}

    def progress(self, step: int) -> float:
        """The share of the stage that is done before a step; 1 at the last step."""
        return min(1.0, step / max(1, self.steps - 1))

    def student_needs(self) -> Needs:
        """What all objectives together need of the student."""
        return joint_needs(objective.student_needs() for objective in self.objectives.values())

    def teacher_needs(self) -> Needs:
        """What all objectives together need of the teacher; nothing if none needs a teacher."""
        return joint_needs(objective.teacher_needs() for objective in self.objectives.values())

    @property
    def needs_teacher_logits(self) -> bool:
        """Whether an objective or the policy needs the teacher's predictions."""
        return self.teacher_needs().predictions or self.generates_with_teacher

    @property
    def generates(self) -> bool:
        """Whether text is generated while the student learns."""
        return self.policy is not None and self.policy.rule is not None

    @property
    def generates_with_teacher(self) -> bool:
        """Whether the teacher takes part in generating it."""
        rule = self.policy.rule if self.policy else None
        return rule is not None and rule.needs_teacher

    @property
    def compares_in_part(self) -> bool:
        """Whether some objectives compare with the teacher and others do not."""
        return len({compares_tokens(objective) for objective in self.objectives.values()}) == 2

    @property
    def rows_together(self) -> int:
        """How many consecutive rows of a batch are in one forward, for objectives that need it."""
        return math.lcm(*(objective.rows_together() for objective in self.objectives.values()))

    def count(self, name: str, batch: Batch) -> int:
        """The number of an objective's items in a batch."""
        objective = self.objectives[name]
        return objective.count(batch.compared if compares_tokens(objective) else batch)
