"""Which layers of a model have queries, keys and values, and keep them, where layers differ."""

from typing import Any

from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from ..architecture import Architecture
from ..auto_classes import empty_model, whole_class
from ..quiet import quiet_transformers
from . import ARCHITECTURES

_OF_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


def attending_layers(body: nn.Module, row: Architecture) -> list[int]:
    """The numbers of the layers of a model's body that have queries, keys and values."""
    layers = body.get_submodule(row.layers).children()
    return [
        number
        for number, layer in enumerate(layers)
        if row.query and row.query in dict(layer.named_modules())
    ]


def layers_with_attention(config: Any, row: Architecture) -> list[int]:
    """The numbers of the layers that have queries, keys and values, without a weight.

    A model of the table is built, on the device ``meta``, only where its configuration names
    layers that do not attend.
    """
    everything = list(range(config.num_hidden_layers))
    if not row.query:
        return []
    kinds = set(config.to_dict().get("layer_types") or ())
    if config.model_type in ARCHITECTURES and kinds <= _OF_ATTENTION:
        return everything
    with quiet_transformers():
        model = empty_model(whole_class(row), config)
    return everything if row.shared_layers else attending_layers(model.base_model, row)


def forgetting_layers(config: Any) -> list[str]:
    """What is kept of those layers whose keys and values of a text say not all that they know.

    A layer with a sliding window is none of them: its keys and values may be kept beyond it.
    """
    layers = _cached_layers(config)
    if layers is None:
        return ["a cache of its own"]
    kinds = {type(layer).__name__ for layer in layers}
    kinds -= {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__}
    chunks = "chunked_attention" in (getattr(config, "layer_types", None) or ())
    return sorted(kinds | ({"chunks of a text"} if chunks else set()))


def layer_windows(config: Any) -> list[int | None]:
    """Tokens that each layer sees at once, the one that it reads included; None for all."""
    return [getattr(layer, "sliding_window", None) for layer in _cached_layers(config) or ()]


def _cached_layers(config: Any) -> list[Any] | None:
    """What is kept of each layer while a text is read; None where transformers cannot tell."""
    try:
        return list(DynamicCache(config=config).layers)
    except Exception:  # of many types, for types whose caches are of their own
        return None
