"""How often student and teacher would fill a gap with the same piece."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ..activations import Needs, capture
from ..architectures import Anatomy
from ..batch import Batch


def top_agreement(
    student: PreTrainedModel,
    student_anatomy: Anatomy,
    teacher: PreTrainedModel,
    teacher_anatomy: Anatomy,
    batches: Sequence[Batch],
) -> float:
    """Share of predicted positions at which both put the same piece first; one vocabulary.

    Raises:
        ModelError: One of them has no vocabulary head.
    """
    same, count = 0, 0
    with torch.no_grad():
        for batch in batches:
            needs = Needs(logits=True)
            of_student = capture(student, student_anatomy, batch.student, needs).logits
            of_teacher = capture(teacher, teacher_anatomy, batch.teacher, needs).logits
            if of_student is not None and of_teacher is not None:
                same += int((of_student.argmax(-1) == of_teacher.argmax(-1)).sum())
                count += len(of_student)
    return same / max(1, count)
