"""Weights are held in the precision of their file and computed with in the precision of the run.

A model held in bfloat16 takes half of the memory that it takes in float32 and computes the same
numbers: every weight is widened where it is used, which does not change its value.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


class StoredLinear(nn.Linear):
    """A linear layer that widens its weights to the precision of its input."""

    def forward(self, input: Tensor) -> Tensor:
        """The output of the layer."""
        return functional.linear(input, *_as_precise(self, input))


class StoredConv1D(Conv1D):
    """GPT-2's linear layer, which widens its weights in the same way."""

    def forward(self, x: Tensor) -> Tensor:
        """The output of the layer."""
        weight, bias = _as_precise(self, x)
        bias = weight.new_zeros(self.nf) if bias is None else bias
        rows = torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight)
        return rows.view(*x.shape[:-1], self.nf)


class StoredEmbedding(nn.Embedding):
    """An embedding table whose rows are widened to float32 as they are looked up."""

    def forward(self, input: Tensor) -> Tensor:
        """The rows of the given ids."""
        return super().forward(input).float()


_KINDS: dict[type, type] = {
    nn.Linear: StoredLinear,
    Conv1D: StoredConv1D,
    nn.Embedding: StoredEmbedding,
}


def keep_stored(model: PreTrainedModel) -> None:
    """Let a model in any precision compute in float32, or in that of autocast, in place.

    Matrices and tables keep their precision; the few other weights become float32.
    """
    for module in model.modules():
        kind = _KINDS.get(type(module))
        if kind is not None:
            module.__class__ = kind  # in place, so that tied weights stay tied
        for name, parameter in module.named_parameters(recurse=False):
            if kind is None or name != "weight":
                parameter.data = parameter.data.float()


def _as_precise(layer: Any, entering: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, widened; unchanged under autocast, which casts them."""
    weight, bias = layer.weight, layer.bias
    if torch.is_autocast_enabled(entering.device.type):
        return weight, bias
    return weight.to(entering.dtype), None if bias is None else bias.to(entering.dtype)
