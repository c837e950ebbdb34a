"""A teacher that runs beside the student and computes only the signals that are needed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..activations import Activations, Name, Needs, OutputMap, as_activations
from ..batch import Batch
from ..models.architecture import Architecture
from ..models.capture import capture_tensors, output_map


@dataclass(frozen=True)
class LiveTeacher:
    """A teacher in evaluation mode, whose parameters get no gradients."""

    model: PreTrainedModel
    architecture: Architecture
    _sharded: list[FSDPModule] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.model.train(False)
        self.model.requires_grad_(False)
        shared = [module for module in self.model.modules() if isinstance(module, FSDPModule)]
        object.__setattr__(self, "_sharded", shared)

    @property
    def models(self) -> Sequence[nn.Module]:
        """The teacher's own model."""
        return (self.model,)

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """The activations that ``needs`` names."""
        if not needs.anything:
            return Activations()
        found = self.tensors(batch, needs.tensors())
        return as_activations(found, self.output if needs.predictions else None)

    @property
    def output(self) -> OutputMap:
        """Its map to the vocabulary."""
        return output_map(self.model, self.architecture)

    def tensors(self, batch: Batch, wanted: set[Name]) -> dict[Name, Tensor]:
        """The tensors of those names; of predictions, only the features.

        Under autocast they are rounded to its precision, as stored signals are, so that training
        beside the teacher and training from stored signals are bit-identical.
        """
        try:
            with torch.no_grad():
                found = capture_tensors(self.model, self.architecture, batch.teacher, wanted)
            device = batch.teacher.input_ids.device  # a layer may be on another
            return {name: as_autocast(tensor.to(device)) for name, tensor in found.items()}
        finally:
            for module in self._sharded:
                module.reshard()  # the layer in which the forward stopped is still gathered


def halve_weights(model: PreTrainedModel) -> None:
    """Store the weights of the body's linear layers in bfloat16, to which autocast rounds them.

    Under autocast the signals are bit-identical, in half of the memory. All other weights stay as
    they are, because autocast computes with them in float32.
    """
    for module in model.base_model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            # Not the bias, which some families add outside of what autocast rounds.
            module.weight.data = module.weight.data.bfloat16()


def as_autocast(tensor: Tensor) -> Tensor:
    """A tensor in the precision of autocast; as it is where that is off."""
    device = tensor.device.type
    if torch.is_autocast_enabled(device):
        return tensor.to(torch.get_autocast_dtype(device))
    return tensor
