"""A student's weights as those of a model without low-rank layers, for programs that know no such.

Each product of two thin matrices is one matrix, and adapters are added to their layers. The student
stays as it is.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..models.low_rank_layers import LowRankLinear, low_rank_ranks
from ..models.quiet import quiet_transformers
from .adapters import adapted_weights


def dense_weights(student: PreTrainedModel, *, inputs_first: bool) -> dict[str, Tensor]:
    """Every weight by its name in a model of the same configuration without low-rank layers.

    Args:
        student: With low-rank layers, with adapters, or with neither.
        inputs_first: As `Architecture.inputs_first`.
    """
    dense = adapted_weights(student)
    with torch.no_grad():
        for path, module in student.named_modules():
            if isinstance(module, LowRankLinear):
                weight = module.weight
                dense[path] = weight.mT if inputs_first else weight, module.bias
    found: dict[str, Tensor] = {}
    for name, tensor in student.state_dict().items():
        if not any(name.startswith(f"{path}.") for path in dense):
            found[name] = tensor
    for path, (weight, bias) in dense.items():
        found[f"{path}.weight"] = weight.detach().contiguous()
        if bias is not None:
            found[f"{path}.bias"] = bias.detach()
    return found


def save_dense(
    student: PreTrainedModel,
    folder: Path,
    weights: Mapping[str, Tensor] | None = None,
    *,
    inputs_first: bool,
) -> None:
    """Write a student into a folder as a model without low-rank layers.

    Args:
        student: Its configuration is written without them.
        folder: Exists.
        weights: In the place of `dense_weights`.
        inputs_first: As `Architecture.inputs_first`.
    """
    if weights is None:
        weights = dense_weights(student, inputs_first=inputs_first)
    with quiet_transformers():
        student.save_pretrained(folder, state_dict=dict(weights))
    if low_rank_ranks(student.config):
        config = copy.deepcopy(student.config)
        del config.quantization_config
        config.save_pretrained(folder)
