"""Which of transformers' automatic classes loads a model: its body, or with a vocabulary head."""

from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForTextEncoding,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from .architecture import Architecture
from .families import ARCHITECTURES


def body_class(model_type: str) -> Any:
    """The class of a model without a head; of an encoder-decoder pair, that of the encoder."""
    row = ARCHITECTURES.get(model_type)
    return AutoModelForTextEncoding if row and row.text_encoder else AutoModel


def language_model_class(*, causal: bool) -> Any:
    """The class of models with a vocabulary head: decoders or encoders."""
    return AutoModelForCausalLM if causal else AutoModelForMaskedLM


def whole_class(architecture: Architecture) -> Any:
    """The class with a vocabulary head where the family has one, and of its body otherwise."""
    if architecture.head:
        return language_model_class(causal=architecture.causal)
    return AutoModelForTextEncoding if architecture.text_encoder else AutoModel


def empty_model(kind: Any, config: Any) -> PreTrainedModel:
    """The model that a configuration describes, without its weights: on torch's device ``meta``.

    Args:
        kind: One of transformers' automatic classes.
        config: The model's configuration.
    """
    # Most of the time would be spent on chance for weights that are not there.
    with torch.device("meta"), no_init_weights():
        model: PreTrainedModel = kind.from_config(config)
    model.tie_weights()  # a part of the initialization that was left out
    return model
