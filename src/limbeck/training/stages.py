"""A stage is one stretch of training: its objectives, its length and its optimizer's settings."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Literal, NamedTuple, cast

from jaxtyping import Bool
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..activations import Activations, Needs
from ..batch import Batch, Tokens
from ..generation.batches import Policy
from ..models.architecture import Architecture
from ..models.capture import capture
from ..objectives.alignment import Alignment
from ..objectives.contract import Objective
from ..objectives.labels import label_loss
from ..objectives.schedule import Ramp, at_progress, number
from ..student.mixed_vocabulary import MixedVocabulary
from ..student.projections import Projections
from ..token_ids import TokenIds
from .settings import OptimizerSettings


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
        trainable: ``head``: nothing of the student but its vocabulary head; a table
            that the head shares with the embeddings stays as it is. ``low_rank``:
            nothing but low-rank layers.
        alignment: Whether teacher and student cut text into different tokens, and are
            compared where batches link them.
        mixed: The teacher's body is trained on both vocabularies, and of the
            student its embedding table; the number is the share of words that the
            student's vocabulary cuts.
        policy: Who writes the text that is learned from; None where it is read.
        projections: How learned maps begin: ``fitted`` to the stage's first batches by
            least squares, or ``random``.
        seed: Of all chance within a step, as dropout.
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
    seed: int = 0

    def weights_at(self, progress: float) -> dict[str, float]:
        """The weights when that share of the stage is done."""
        return {name: number(weight, progress) for name, weight in self.weights.items()}

    def progress(self, step: int) -> float:
        """The share of the stage that is done before a step; 1 at its last step."""
        return min(1.0, step / max(1, self.steps - 1))

    def student_needs(self) -> Needs:
        """The union over the objectives."""
        return _all_of(objective.student_needs() for objective in self.objectives.values())

    def teacher_needs(self) -> Needs:
        """The union over the objectives; nothing if none of them needs a teacher."""
        return _all_of(objective.teacher_needs() for objective in self.objectives.values())

    @property
    def asks_logits(self) -> bool:
        """Whether it asks the teacher what it expects next."""
        rule = self.policy.rule if self.policy else None
        return self.teacher_needs().predictions or (rule is not None and rule.asks_teacher)

    @property
    def learns_apart(self) -> bool:
        """Whether some objectives compare with the teacher, and others do without it."""
        return len({_compares(objective) for objective in self.objectives.values()}) == 2

    def count(self, name: str, batch: Batch) -> int:
        """The items of an objective in a batch."""
        objective = self.objectives[name]
        return objective.count(batch.compared if _compares(objective) else batch)


def _all_of(some: Iterable[Needs]) -> Needs:
    return reduce(or_, some, Needs())


def _compares(objective: Objective) -> bool:
    """Whether it reads the teacher beside the student."""
    return objective.teacher_needs().anything


class Read(NamedTuple):
    """What one objective reads of a batch."""

    name: str
    objective: Objective
    student: Activations
    teacher: Activations
    batch: Batch
    projections: Projections


class Learner(nn.Module):
    """All that is trained: the student, and each objective's projections beside it.

    One module, so that gradient synchronisation and autocast wrap it as a whole.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        projections: Mapping[str, Projections],
        architecture: Architecture,
        objectives: Mapping[str, Objective],
        alignment: Alignment | None = None,
    ) -> None:
        super().__init__()
        self.alignment = alignment
        self.student = student
        # By number: a recipe may give its objectives names that no module can have.
        self.projections = nn.ModuleList(projections[name] for name in objectives)
        self.architecture = architecture
        self.objectives = objectives
        compared = [o.student_needs() for o in objectives.values() if _compares(o)]
        own = [o.student_needs() for o in objectives.values() if not _compares(o)]
        self.needs_compared, self.needs_own = _all_of(compared), _all_of(own)

    def forward(
        self, batch: Batch, teacher: Activations, progress: float = 1.0
    ) -> dict[str, Tensor]:
        """The total of every objective on the batch.

        Args:
            batch: What both models read.
            teacher: What the objectives need of it.
            progress: Share of the stage that is done, for options that change with it.
        """
        return {
            read.name: at_progress(read.objective, progress).total(
                read.student, read.teacher, read.batch, read.projections
            )
            for read in self.read(batch, teacher)
        }

    def read(self, batch: Batch, teacher: Activations) -> Iterator["Read"]:
        """What every objective reads of a batch, brought to the same tokens."""
        own, compared, tokens = self._captured(batch)
        if self.alignment is not None and batch.links is not None:
            compared = self.alignment.student(compared, batch.links, tokens)
            teacher = self.alignment.teacher(teacher, batch.links, batch.teacher)
        seen = {True: (compared, batch.compared), False: (own, batch)}
        for (name, objective), maps in zip(self.objectives.items(), self.projections, strict=True):
            student, here = seen[_compares(objective)]
            yield Read(name, objective, student, teacher, here, cast(Projections, maps))

    def _captured(self, batch: Batch) -> tuple[Activations, Activations, Tokens]:
        """What objectives without a teacher read of the student, what all others do, and where."""
        links = batch.links
        if links is None:
            found = capture(
                self.student, self.architecture, batch.student, self.needs_own | self.needs_compared
            )
            return found, found, batch.student
        if links.view is not None:
            return (
                capture(self.student, self.architecture, batch.student, self.needs_own),
                capture(self.student, self.architecture, links.view, self.needs_compared),
                links.view,
            )
        linked, hidden = links.student >= 0, batch.student.predicted
        if links.student_next is not None:
            linked = linked | (links.student_next >= 0)
        everything = replace(batch.student, predicted=linked | hidden)
        found = capture(
            self.student, self.architecture, everything, self.needs_own | self.needs_compared
        )
        return _at(found, hidden[everything.predicted]), found, everything


def _at(found: Activations, rows: Bool[Tensor, " predicted"]) -> Activations:
    """The same with some rows of the predictions alone."""
    given = found.predictions
    if given is None:
        return found
    return replace(found, predictions=replace(given, features=given.features[rows]))


class MixedLearner(nn.Module):
    """What is trained in a mixed stage: the teacher on both vocabularies, the student's table."""

    def __init__(
        self,
        student: PreTrainedModel,
        mixed: MixedVocabulary,
        *,
        vocabularies: tuple[TokenIds | None, TokenIds | None] = (None, None),
    ) -> None:
        """Of a student; ``vocabularies`` are the ids of the teacher's tokens and of its own."""
        super().__init__()
        self.student = student
        self.mixed = mixed
        self.vocabularies = vocabularies
        student.requires_grad_(False)
        mixed.embedding.student.requires_grad_(True)

    def forward(
        self, batch: Batch, teacher: Activations, progress: float = 1.0
    ) -> dict[str, Tensor]:
        """The cross-entropy of the predicted tokens of both kinds, as `Learner` gives totals."""
        of_teacher, of_student = self.mixed.predictions(batch.student)
        labels = batch.student.labels[batch.student.predicted]
        first = self.mixed.embedding.student_from
        is_student = labels >= first
        theirs, mine = self.vocabularies
        total = label_loss(of_teacher, labels[~is_student], vocabulary=theirs)
        total = total + label_loss(of_student, labels[is_student] - first, vocabulary=mine)
        return {"labels": total}
