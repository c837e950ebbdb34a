"""Linear layers prepared once for the many forwards of a batch, over a few rows each.

A product of a few rows with a large matrix is limited by how the weights lie in memory. oneDNN
multiplies them up to twice as fast where they were laid out for it beforehand (on an AMD processor,
where MKL is slowest, most), and in bfloat16 twice as fast again. The layout is a copy, which does
not follow the weights: it is made at the beginning of each batch.

torch has no public function for such weights; the two that its own compiler calls are used here, in
one place (`tests/generation/test_direct.py` fails where they change).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

Map = Callable[[Tensor], Tensor]
_LARGE = 2**17  # weights; below, starting oneDNN takes longer than the product


def product_of(modules: Sequence[nn.Module], *, coarse: bool) -> Map:
    """What linear layers give for one input, side by side.

    Args:
        modules: Layers that take the same input; those that are not plain linear ones (adapters,
            low-rank layers) are called as they are.
        coarse: Whether large ones are multiplied in bfloat16, where the processor does that.
    """
    if all(type(module) in (nn.Linear, Conv1D) for module in modules):
        pairs = [_weights_of(module) for module in modules]
        if len(pairs) == 1:
            return _product(*pairs[0], coarse=coarse)
        weight = torch.cat([weight for weight, _ in pairs])
        biases = [bias for _, bias in pairs if bias is not None]
        if len(biases) in (0, len(pairs)):
            return _product(weight, torch.cat(biases) if biases else None, coarse=coarse)
    if len(modules) == 1:
        return modules[0]
    return lambda given: torch.cat([module(given) for module in modules], -1)


def has_onednn() -> bool:
    """Whether oneDNN multiplies here, on a processor for which its layouts are made."""
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and torch.backends.cpu.get_cpu_capability().startswith("AVX")


def _weights_of(module: Any) -> tuple[Tensor, Tensor | None]:
    """The weight as (outputs, inputs), and the bias."""
    weight = module.weight.detach()
    bias = None if module.bias is None else module.bias.detach()
    return weight.T if isinstance(module, Conv1D) else weight, bias


def _product(weight: Tensor, bias: Tensor | None, *, coarse: bool) -> Map:
    large = weight.dtype == torch.float32 and weight.numel() >= _LARGE
    if not (large and has_onednn()):
        return lambda given: linear(given, weight, bias)
    coarse = coarse and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    kind = torch.bfloat16 if coarse else torch.float32
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(kind).contiguous())
    added = None if bias is None else bias.to(kind)

    def multiplied(given: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(
            given.to(kind), packed, added, "none", [], ""
        )
        return found.float()

    return multiplied
