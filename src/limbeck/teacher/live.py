"""The teacher runs beside the student, and gives only what was asked for."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..activations import Activations, Name, Needs, as_activations, capture_tensors
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
        if not needs.anything:
            return Activations()
        found = self.tensors(batch, needs.tensors())
        return as_activations(self.model, self.anatomy, found)

    def tensors(self, batch: Batch, wanted: set[Name]) -> dict[Name, Tensor]:
        """The tensors of those names; of predictions, the features alone."""
        with torch.no_grad():
            return capture_tensors(self.model, self.anatomy, batch.teacher, wanted)
