"""Quantization-aware training: layers compute with the rounded numbers of an exported file.

Rounding has no gradient, so it is taken for the identity in the backward (straight through).
Weights stay in float32 and are rounded in every forward; nothing of it is stored.

Source: Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, arXiv:1712.05877; Bengio et al. 2013, arXiv:1308.3432.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .rounding_kinds import Rounding

BLOCK = 32  # weights of a row that have a scale of their own, in 4 bits
_LARGEST = {"int8": 127, "int8_reduced": 64}  # of a weight
_LEVELS = 255  # of an activation, above its smallest


def round_layers(model: PreTrainedModel, rounding: Rounding | None) -> None:
    """Let all linear layers and embedding tables compute as in an exported file; in place.

    ``int8`` and ``int8_reduced`` are `onnx-int8`, with weights of 8 or 7 bits: a scale for each
    output and each row of a table, and activations of 8 bits whose range is that of each text,
    with its padding.
    ``int4`` is `onnx-int4-weights`: weights of 4 bits in blocks of 32, head and table of 8 bits.

    Args:
        model: The student.
        rounding: None to compute with the weights as they are again.
    """
    here: Any = model
    head, table = here.get_output_embeddings(), here.get_input_embeddings()
    tied = head is not None and table is not None and head.weight is table.weight
    for layer in model.modules():
        if not isinstance(layer, nn.Linear | Conv1D | nn.Embedding):
            continue
        here = layer
        here.__dict__.pop("forward", None)
        if rounding is None:
            continue
        if isinstance(layer, nn.Embedding):
            in_blocks = rounding == "int4" and tied and layer is table
            rounded = _blocks_of_8_bits if in_blocks else _rows_of_8_bits
            here.forward = partial(_look_up, here.forward, rounded)
        elif rounding == "int4":
            here.forward = partial(_in_blocks, layer, 8 if layer is head else 4)
        else:
            here.forward = partial(_in_8_bits, layer, _LARGEST[rounding])


def rounded_rows(weight: Float[Tensor, "*rows width"], largest: int) -> tuple[Tensor, Tensor]:
    """Each row as whole numbers from -largest to largest, and its scale [*rows, 1]."""
    scale = weight.detach().abs().amax(-1, keepdim=True) / largest
    scale = torch.where(scale == 0, 1.0, scale)
    steps = weight / scale
    return _straight_through(steps, steps.round()), scale


def rounded_blocks(weight: Float[Tensor, "*rows width"], bits: int) -> Float[Tensor, "*rows width"]:
    """Each row with its numbers rounded in blocks, whose largest number is the smallest integer.

    Args:
        weight: A width that 32 does not divide has a shorter last block.
        bits: Of a number.
    """
    width, half = weight.shape[-1], 2 ** (bits - 1)
    padded = functional.pad(weight, (0, -width % BLOCK))
    padded = padded.reshape(*weight.shape[:-1], -1, BLOCK)
    fixed = padded.detach()
    place = fixed.abs().argmax(-1, keepdim=True)
    scale = fixed.gather(-1, place) / -half
    scale = torch.where(scale == 0, 1.0, scale)
    whole = (fixed / scale).round().clamp(-half, half - 1)
    return _straight_through(padded, whole * scale).flatten(-2)[..., :width]


def rounded_activations(x: Float[Tensor, "texts ..."]) -> tuple[Tensor, Tensor]:
    """Each text as whole numbers of 8 bits around its zero, and its scale [texts, 1, ...].

    Padding is in the range of its text, as it is in that of a batch that a file runs.
    """
    fixed, rest = x.detach(), tuple(range(1, x.ndim))
    low = fixed.amin(rest, keepdim=True).clamp(max=0)
    high = fixed.amax(rest, keepdim=True).clamp(min=0)
    scale = (high - low) / _LEVELS
    scale = torch.where(scale == 0, 1.0, scale)
    zero = (-low / scale).round()
    steps = x / scale
    whole = (steps.detach().round() + zero).clamp(0, _LEVELS) - zero
    return _straight_through(steps, whole), scale


def _in_8_bits(layer: nn.Linear | Conv1D, largest: int, x: Tensor) -> Tensor:
    """The layer over whole numbers, which bfloat16 holds exactly, scaled afterwards."""
    activations, of_texts = rounded_activations(x.float())
    weights, of_rows = rounded_rows(_by_output(layer).float(), largest)
    found = functional.linear(activations, weights) * (of_texts * of_rows.squeeze(-1))
    return (found if layer.bias is None else found + layer.bias).to(_given(x))


def _in_blocks(layer: nn.Linear | Conv1D, bits: int, x: Tensor) -> Tensor:
    weight = rounded_blocks(_by_output(layer).float(), bits)
    found: Tensor = functional.linear(x, weight.to(x.dtype), layer.bias)
    return found


def _look_up(forward: Any, rounded: Any, *ids: Any, **named: Any) -> Tensor:
    """The rounded rows of a table; OPT's of positions takes more than ids."""
    found: Tensor = forward(*ids, **named)
    whole: Tensor = rounded(found.float()).to(found.dtype)
    return whole


def _rows_of_8_bits(rows: Tensor) -> Tensor:
    whole, scale = rounded_rows(rows, _LARGEST["int8"])
    return whole * scale


def _blocks_of_8_bits(rows: Tensor) -> Tensor:
    return rounded_blocks(rows, 8)


def _by_output(layer: nn.Linear | Conv1D) -> Float[Tensor, "outputs inputs"]:
    """The weight, also of GPT-2's Conv1D."""
    return layer.weight.T if isinstance(layer, Conv1D) else layer.weight


def _given(x: Tensor) -> torch.dtype:
    """The kind of numbers that the layer would give."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _straight_through(x: Tensor, whole: Tensor) -> Tensor:
    """The rounded numbers, with the gradient of those that were rounded."""
    return x + (whole - x).detach()
