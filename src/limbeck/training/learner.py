"""The module that is trained: the student, and what is trained with it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, cast

from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..activations import Activations
from ..batch import Batch, Tokens, places_of
from ..models.architecture import Architecture
from ..models.capture import capture
from ..objectives.alignment import Alignment
from ..objectives.contract import Objective, compares_tokens, joint_needs
from ..objectives.labels import label_loss
from ..objectives.schedule import at_progress
from ..student.mixed_vocabulary import MixedVocabulary
from ..student.projections import Projections
from ..token_ids import TokenIds


class Read(NamedTuple):
    """What one objective reads of a batch."""

    name: str
    objective: Objective
    student: Activations
    teacher: Activations
    batch: Batch
    projections: Projections


class Learner(nn.Module):
    """The student and the projections of each objective.

    They are one module, so that gradient synchronization and autocast wrap them as a whole.
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
        # By number, because a recipe may give objectives names that a module cannot have.
        self.projections = nn.ModuleList(projections[name] for name in objectives)
        self.architecture = architecture
        self.objectives = objectives
        compared = [o.student_needs() for o in objectives.values() if compares_tokens(o)]
        own = [o.student_needs() for o in objectives.values() if not compares_tokens(o)]
        self.needs_compared, self.needs_own = joint_needs(compared), joint_needs(own)

    def forward(
        self, batch: Batch, teacher: Activations, progress: float = 1.0
    ) -> dict[str, Tensor]:
        """The total of every objective on the batch.

        Args:
            batch: What both models read.
            teacher: The teacher's activations that the objectives need.
            progress: Share of the stage that is done, for options that change over the stage.
        """
        return {
            read.name: at_progress(read.objective, progress).total(
                read.student, read.teacher, read.batch, read.projections
            )
            for read in self.read(batch, teacher)
        }

    def read(self, batch: Batch, teacher: Activations) -> Iterator[Read]:
        """What every objective reads of a batch, with both models aligned to the same tokens.

        Classes and vectors of whole texts need no alignment.
        """
        own, compared, tokens = self._captured(batch)
        theirs = teacher
        if self.alignment is not None and batch.links is not None:
            compared = self.alignment.student(compared, batch.links, tokens)
            theirs = self.alignment.teacher(teacher, batch.links, batch.teacher)
        seen = {True: (compared, theirs, batch.compared), False: (own, teacher, batch)}
        for (name, objective), maps in zip(self.objectives.items(), self.projections, strict=True):
            mine, other, here = seen[compares_tokens(objective)]
            yield Read(name, objective, mine, other, here, cast(Projections, maps))

    def _captured(self, batch: Batch) -> tuple[Activations, Activations, Tokens]:
        """The student's activations for objectives without and with a teacher, and their tokens."""
        links = batch.links
        both = self.needs_own | self.needs_compared
        if links is None or (links.view is None and not both.predictions):
            found = capture(self.student, self.architecture, batch.student, both)
            return found, found, batch.student
        if links.view is not None:
            return (
                capture(self.student, self.architecture, batch.student, self.needs_own),
                capture(self.student, self.architecture, links.view, self.needs_compared),
                links.view,
            )
        here = batch.student.here  # a device would have to be asked which tokens these are
        linked, hidden = links.here.student >= 0, here.predicted
        if links.here.student_next is not None:
            linked = linked | (links.here.student_next >= 0)
        device = batch.student.mask.device
        everything = replace(here, predicted=linked | hidden).to(device)
        found = capture(self.student, self.architecture, everything, both)
        own = places_of(hidden[linked | hidden], device)
        return _at(found, own), found, everything


def _at(found: Activations, rows: Int[Tensor, " own"]) -> Activations:
    """The same activations with only some rows of the predictions."""
    given = found.predictions
    if given is None:
        return found
    return replace(found, predictions=replace(given, features=given.features[rows]))


class MixedLearner(nn.Module):
    """Trained in a mixed stage: the teacher on both vocabularies, and the student's table."""

    def __init__(
        self,
        student: PreTrainedModel,
        mixed: MixedVocabulary,
        *,
        vocabularies: tuple[TokenIds | None, TokenIds | None] = (None, None),
    ) -> None:
        """``vocabularies`` are the ids of the teacher's tokens and of the student's."""
        super().__init__()
        self.student = student
        self.mixed = mixed
        self.vocabularies = vocabularies
        student.requires_grad_(False)
        mixed.embedding.student.requires_grad_(True)

    def forward(
        self, batch: Batch, teacher: Activations, progress: float = 1.0
    ) -> dict[str, Tensor]:
        """The cross-entropy of predicted tokens of both vocabularies, in the form of `Learner`."""
        of_teacher, of_student = self.mixed.predictions(batch.student)
        labels = batch.student.labels[batch.student.predicted]
        first = self.mixed.embedding.student_from
        is_student = labels >= first
        theirs, mine = self.vocabularies
        total = label_loss(of_teacher, labels[~is_student], vocabulary=theirs)
        total = total + label_loss(of_student, labels[is_student] - first, vocabulary=mine)
        return {"labels": total}
