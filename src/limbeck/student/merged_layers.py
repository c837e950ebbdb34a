"""The weights of a teacher's body, in the names that they get in a student with other layers.

Source: means of layers as in Kolesnikova et al. 2022, arXiv:2205.02340.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..models.architecture import Architecture
from ..models.hooks import runs_of_layers
from ..models.modules import submodule
from .axis_roles import layer_of


def runs_of_modules(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    architecture: Architecture,
    layers: Sequence[Sequence[int]],
) -> list[list[int]]:
    """The modules of the teacher's layers that each module of the student's is the mean of.

    A module that runs as several layers is made of all modules that these layers name.
    """
    if not architecture.shared_layers:
        return [list(run) for run in layers]
    owners = _owners(teacher, architecture)
    runs: dict[int, set[int]] = {}
    for owner, run in zip(_owners(student, architecture), layers, strict=True):
        runs.setdefault(owner, set()).update(owners[layer] for layer in run)
    return [sorted(runs[owner]) for owner in sorted(runs)]


def _owners(model: PreTrainedModel, architecture: Architecture) -> list[int]:
    """The number of the module that runs as each layer."""
    modules = list(submodule(model.base_model, architecture.layers).children())
    return [modules.index(module) for module, _ in runs_of_layers(model, architecture)]


def merged_layers(
    teacher: PreTrainedModel, architecture: Architecture, runs: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """The weights of the teacher's body, with each run of modules replaced by its mean."""
    merged: dict[str, Tensor] = {}
    of_layers: dict[str, dict[int, Tensor]] = {}
    for name, weight in teacher.base_model.named_parameters():
        layer, rest = layer_of(name, architecture)
        if layer is None:
            merged[name] = weight
        else:
            of_layers.setdefault(rest, {})[layer] = weight
    for number, run in enumerate(runs):
        for rest, weights in of_layers.items():
            found = [weights[layer] for layer in run if layer in weights]
            if not found and len(weights) == 1:
                # What one layer keeps for all, as T5's additions to the scores by distance.
                found = list(weights.values())
            if found:
                mean = found[0]
                if len(found) > 1:
                    mean = torch.stack([weight.detach().float() for weight in found]).mean(0)
                merged[f"{architecture.layers}.{number}.{rest}"] = mean
    return merged
