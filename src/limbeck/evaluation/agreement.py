"""How often student and teacher predict the same token."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..activations import Needs, Predictions
from ..batch import Batch
from ..models.architecture import Architecture
from ..models.capture import capture
from ..token_ids import TokenIds


@torch.no_grad()
def top_agreement(
    student: PreTrainedModel,
    student_architecture: Architecture,
    teacher: PreTrainedModel,
    teacher_architecture: Architecture,
    batches: Sequence[Batch],
    *,
    tokens: TokenIds | int,
) -> float:
    """Share of predicted positions at which both predict the same token, with one vocabulary.

    Args:
        student: In evaluation mode.
        student_architecture: Of its family.
        teacher: In evaluation mode.
        teacher_architecture: Of its family.
        batches: Read by both.
        tokens: The ids that the tokenizer has, or how many from 0 on.

    Raises:
        ModelError: One of them has no vocabulary head.
    """
    ids = TokenIds.given(tokens)
    same, count = 0, 0
    for batch in batches:
        needs = Needs(predictions=True)
        mine, other = batch.student.to(student.device), batch.teacher.to(teacher.device)
        of_student = capture(student, student_architecture, mine, needs).predictions
        of_teacher = capture(teacher, teacher_architecture, other, needs).predictions
        if of_student is not None and of_teacher is not None:
            theirs = _first(of_teacher, ids).to(student.device)
            same += int((_first(of_student, ids) == theirs).sum())
            count += len(theirs)
    return same / max(1, count)


@torch.no_grad()
def dropped_mass(
    teacher: PreTrainedModel,
    architecture: Architecture,
    batches: Sequence[Batch],
    *,
    tokens: TokenIds | int,
) -> float:
    """Mean probability that a teacher gives to ids that are no tokens.

    Objectives leave these ids out, so much probability there would be much left out.

    Raises:
        ModelError: The teacher has no vocabulary head.
    """
    ids = TokenIds.given(tokens)
    mass, count = 0.0, 0
    for batch in batches:
        needs = Needs(predictions=True)
        read = batch.teacher.to(teacher.device)
        found = capture(teacher, architecture, read, needs).predictions
        if found is not None:
            probabilities = found.logits().float().softmax(-1)
            mass += float(probabilities[:, ids.end :].sum())
            mass += float(probabilities[:, list(ids.absent)].sum())
            count += len(probabilities)
    return mass / max(1, count)


def _first(predictions: Predictions, ids: TokenIds) -> Tensor:
    return ids.only(predictions.logits()).argmax(-1)
