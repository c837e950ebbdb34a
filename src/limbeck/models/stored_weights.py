"""Weights are held in the precision of their file and computed with in the precision of the run.

A model held in bfloat16 takes half of the memory that it takes in float32 and computes the same
numbers: every weight is widened where it is used, which does not change its value.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
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
        learns = torch.is_grad_enabled() and input.requires_grad and not self.weight.requires_grad
        if not learns or torch.is_autocast_enabled(input.device.type):
            return functional.linear(input, *_as_precise(self, input))
        rows: Tensor = _Product.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return rows if self.bias is None else rows + self.bias.to(rows.dtype)


class _Product(torch.autograd.Function):
    """A product with a frozen matrix, which is widened again in the backward and not kept wide."""

    @staticmethod
    def forward(context: Any, input: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(weight)
        return functional.linear(input, weight.to(input.dtype))

    @staticmethod
    def backward(context: Any, *of_outputs: Tensor) -> tuple[Tensor, None]:
        [weight], [gradient] = context.saved_tensors, of_outputs
        return gradient @ weight.to(gradient.dtype), None


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


class StoredScaledEmbedding(StoredEmbedding):
    """Gemma's table, whose rows are scaled after they were widened."""

    embed_scale: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """The scaled rows of the given ids."""
        return super().forward(input) * self.embed_scale


_KINDS: dict[type, type] = {
    nn.Linear: StoredLinear,
    Conv1D: StoredConv1D,
    nn.Embedding: StoredEmbedding,
}
_READ_WHOLE = ("rel_embeddings",)


def keep_stored(model: PreTrainedModel) -> None:
    """Let a model in any precision compute in float32, or in that of autocast, in place.

    Matrices and tables keep their precision. The few other weights become float32, and so do
    matrices to whose precision a family rounds the input (T5's `wo`, which transformers lists) and
    tables that are read otherwise than by looking rows up (DeBERTa's relative positions).
    """
    for module, kind in widening_kinds(model):
        if kind is not None:
            module.__class__ = kind  # in place, so that tied weights stay tied
        if kind is StoredScaledEmbedding:
            # The model was built in the precision of its file, to which the scale was rounded.
            module.embed_scale = torch.tensor(module.scalar_embed_scale, dtype=torch.float32)
        for name, parameter in module.named_parameters(recurse=False):
            if kind is None or name != "weight":
                parameter.data = parameter.data.float()


def widening_kinds(model: PreTrainedModel) -> Iterator[tuple[Any, type | None]]:
    """Every module, and the class in which it widens its weight where it is used.

    None where it has no matrix or table, or one that has to be in float32.
    """
    widened = {*_READ_WHOLE, *(model._keep_in_fp32_modules or ())}
    for path, module in model.named_modules():
        yield module, None if path.split(".")[-1] in widened else _stored_kind(module)


def _stored_kind(module: nn.Module) -> type | None:
    """The class in which a module widens its weights; None where it has no matrix or table."""
    kind: Any = type(module)
    if kind in _KINDS:
        return _KINDS[kind]
    if isinstance(module, nn.Embedding):
        scaled = "embed_scale" in dict(module.named_buffers(recurse=False))
        return StoredScaledEmbedding if scaled else _stored_table(kind)
    return _stored_matrix(kind) if isinstance(module, nn.Linear) else None


_PREFIX = "StoredOf"


# Cached, so that all modules of one class get the same one.
@lru_cache(maxsize=64)
def _stored_table(kind: Any) -> type:
    """A family's own embedding table, whose rows are widened."""
    # The family's forward calls that of the next class, which looks the rows up.
    return type(f"{_PREFIX}{kind.__name__}", (kind, StoredEmbedding), {})


@lru_cache(maxsize=64)
def _stored_matrix(kind: Any) -> type:
    """A family's own linear layer, which computes as it does with widened weights."""

    def forward(self: Any, *inputs: Tensor) -> Tensor:
        with _widened(self, inputs[0]):
            found: Tensor = kind.forward(self, *inputs)
        return found

    return type(f"{_PREFIX}{kind.__name__}", (kind,), {"forward": forward})


@contextmanager
def _widened(layer: Any, entering: Tensor) -> Iterator[None]:
    """Let a linear layer hold its weights in the precision of its input."""
    stored = dict(layer._parameters)
    layer._parameters.update(zip(("weight", "bias"), _as_precise(layer, entering), strict=True))
    try:
        yield
    finally:
        layer._parameters.update(stored)


def _as_precise(layer: Any, entering: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, widened; unchanged under autocast, which casts them."""
    weight, bias = layer.weight, layer.bias
    if torch.is_autocast_enabled(entering.device.type):
        return weight, bias
    return weight.to(entering.dtype), None if bias is None else bias.to(entering.dtype)
