"""A model that only runs, with the matrices of its layers in 8 or 4 bits.

``int8`` and ``int4`` are for memory: each run of 32 weights of a row has a scale of its own, and
weights are widened where they are used: the inputs of a layer are not rounded. On a processor this
takes half the error of one scale for a row, and a quarter of the error of rounding the inputs too.
``int8_dynamic`` is for speed, and rounds the inputs too.
"""

from importlib.util import find_spec
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..errors import MissingExtraError, ModelError
from .architecture import Architecture
from .int4_linear import Int4Linear
from .int8_dynamic import Int8DynamicLinear, int8_dynamic_missing
from .low_rank_layers import set_submodule
from .modules import submodule

Quantization = Literal["int8", "int4", "int8_dynamic"]
_GROUP = 32  # weights that share a scale


def quantization_missing() -> str | None:
    """Why nothing can be quantized here; None where it can."""
    if find_spec("torchao") is not None:
        return None
    return "numbers of 8 or 4 bits need torchao; run: pip install 'limbeck[quantize]'"


def quantize_layers(
    model: PreTrainedModel, architecture: Architecture, kind: Quantization = "int8"
) -> None:
    """Hold the matrices of a model's layers in 8 or 4 bits, in place.

    Embeddings, norms and the vocabulary head stay as they are.

    Args:
        model: In float32, or held in the precision of its file.
        architecture: Says where its layers are.
        kind: How many bits, and whether inputs are rounded, too.

    Raises:
        MissingExtraError: torchao, which ``int8`` needs, is not installed.
        ModelError: This processor does not multiply in 8 bits.
    """
    if kind == "int8" and (missing := quantization_missing()):
        raise MissingExtraError(missing)
    if kind == "int8_dynamic" and (missing := int8_dynamic_missing()):
        raise ModelError(missing)
    layers = submodule(model.base_model, architecture.layers)
    for path, layer in list(layers.named_modules()):
        if kind != "int8" and isinstance(layer, nn.Linear | Conv1D):
            weight = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
            made: nn.Module
            if kind == "int4":
                made = Int4Linear(weight, _widened(layer.bias))
            else:
                made = Int8DynamicLinear(weight, layer.bias)
            set_submodule(layers, path, made)
        elif isinstance(layer, nn.Linear):
            layer.__class__ = nn.Linear  # it computes the same; the library knows this class alone
            _quantize(layer)
        elif isinstance(layer, Conv1D):
            turned = nn.Linear(layer.nx, layer.nf, device="meta")
            turned.weight = nn.Parameter(layer.weight.T.contiguous())
            turned.bias = layer.bias
            _quantize(turned)
            set_submodule(layers, path, turned)


def _widened(bias: nn.Parameter | None) -> nn.Parameter | None:
    return None if bias is None else nn.Parameter(bias.data.float(), requires_grad=False)


def _quantize(layer: nn.Linear) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, PerGroup, PerRow, quantize_

    # From float32, so that scales are float32, too.
    for parameter in layer.parameters():
        parameter.data = parameter.data.float()
    by: Any = PerGroup(_GROUP) if layer.in_features % _GROUP == 0 else PerRow()
    config = Int8WeightOnlyConfig(granularity=by, set_inductor_config=False)
    quantize_(layer, config, filter_fn=lambda *_: True)
