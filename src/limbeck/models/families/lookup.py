"""The architecture of a model: its family's row of the table, or a row that proves itself."""

from dataclasses import replace
from typing import Any

import transformers
from transformers import AutoConfig

from ...errors import ModelError
from ..architecture import Architecture
from . import ARCHITECTURES
from .encoders import DEBERTA_WITH_LM_PREDICTIONS


def architecture_of(config: Any) -> Architecture:
    """The architecture of a model, by its transformers configuration.

    Raises:
        ModelError: The family is not in the table.
    """
    row = ARCHITECTURES.get(config.model_type)
    if row is None:
        raise ModelError(
            f"the architecture {config.model_type!r} is not known (known:"
            f" {', '.join(sorted(ARCHITECTURES))}); for a teacher, and for a student of the same"
            " architecture, give the module paths in the recipe, as"
            " `teacher: {model: ..., architecture: {layers: encoder.layer,"
            " query: attention.self.query, key: ..., value: ..., head: [cls]}}`"
        )
    if config.model_type == "deberta-v2" and not config.legacy:
        return DEBERTA_WITH_LM_PREDICTIONS
    if getattr(config, "alibi", False):  # Falcon in either form
        return replace(row, positions="alibi", separable_documents=False)
    return row


def architecture_of_type(model_type: str) -> Architecture:
    """The architecture of a family, by transformers' name of it.

    Raises:
        ModelError: transformers does not know it, or it is not in the table.
    """
    try:
        return architecture_of(AutoConfig.for_model(model_type))
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"transformers {transformers.__version__} knows no model_type {model_type!r}; limbeck"
            f" knows {', '.join(sorted(ARCHITECTURES))}"
        ) from error
