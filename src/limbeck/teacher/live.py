"""The teacher runs beside the student, and gives only what was asked for."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from ..activations import Activations, Needs, capture
from ..architectures import Anatomy
from ..batch import Batch


@dataclass(frozen=True)
class LiveTeacher:
    """A teacher in evaluation mode, whose parameters get no gradients."""

    model: PreTrainedModel
    anatomy: Anatomy

    def __post_init__(self) -> None:
        self.model.train(False)
        self.model.requires_grad_(False)

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """The activations that ``needs`` names."""
        with torch.no_grad():
            return capture(self.model, self.anatomy, batch.teacher, needs)
