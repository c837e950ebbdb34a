"""A teacher whose layers run on OpenVINO, which is quicker on a processor."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..activations import Name
from ..batch import Batch
from ..models.capture import after_body
from ..models.openvino_forward import OpenVinoForward
from .live import LiveTeacher, as_autocast


@dataclass(frozen=True)
class OpenVinoTeacher(LiveTeacher):
    """A teacher in torch, of which the layers run elsewhere.

    Attributes:
        forward: Of its model.
    """

    forward: OpenVinoForward

    def tensors(self, batch: Batch, wanted: set[Name]) -> dict[Name, Tensor]:
        """As `LiveTeacher.tensors`, up to rounding.

        Raises:
            ModelError: OpenVINO does not run the model as torch does.
        """
        tokens = batch.teacher
        with torch.no_grad():
            body = self.forward(tokens, wanted)
            found = after_body(self.model, self.architecture, tokens, wanted, body)
        return {name: as_autocast(tensor) for name, tensor in found.items()}
