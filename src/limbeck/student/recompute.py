"""Gradient checkpointing: layers are recomputed in the backward.

Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ..models.architecture import Architecture
from ..models.modules import submodule


def recompute_layers(model: PreTrainedModel, architecture: Architecture) -> None:
    """Keep only the input of every layer for the backward, in place.

    A step then holds the activations of one layer at a time, for a third more computation.
    """
    for layer in submodule(model.base_model, architecture.layers).children():
        here: Any = layer
        here.forward = partial(_recomputed, here.forward)


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():  # nothing is kept without gradients
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
