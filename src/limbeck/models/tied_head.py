"""Whether a vocabulary head is really tied to the embedding table, as the configuration says.

transformers keeps a head with other numbers, whatever the configuration says; a model that is
built from the configuration alone would be a different one.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming

from ..errors import ModelError, first_line
from .architecture import Architecture
from .auto_classes import empty_model, whole_class
from .families import ARCHITECTURES
from .weight_files import KeptConfig, State, read_headers, same_in_files, state_of, weight_files
from .weight_fit import check_layers
from .weight_names import unwrapped


def has_head_of_its_own(place: str, config: Any) -> bool:
    """Whether a model's files hold a vocabulary head with other numbers than its embeddings.

    False where this is not known, as for a hub model that has not been downloaded yet.

    Args:
        place: A folder, or a hub name.
        config: Its configuration.

    Raises:
        ModelError: Files are missing or damaged.
    """
    architecture = ARCHITECTURES.get(config.model_type)
    files = weight_files(place)
    if architecture is None or not architecture.head or architecture.output_bias or files is None:
        return False
    return _in_state(place, KeptConfig.of(config), architecture, state_of(files))


def has_lm_predictions(place: str, config: Any) -> bool:
    """Whether a DeBERTa's files hold its head as `lm_predictions`, whatever the configuration says.

    Args:
        place: A folder, or a hub name.
        config: Its configuration.

    Raises:
        ModelError: Files are missing or damaged.
    """
    if config.model_type != "deberta-v2":
        return False
    names = read_headers(weight_files(place) or [])
    return any("lm_predictions.lm_head." in name for name in names)


# Cached, because the configuration of a model is read many times.
@lru_cache(maxsize=64)
def _in_state(
    place: str,
    config: KeptConfig,
    architecture: Architecture,
    state: State,
) -> bool:
    files = [file for file, _, _ in state]
    weights = read_headers(files)
    check_layers(place, config.built, weights)
    model = _empty(config.built, architecture)
    names = _as_in_model(model, unwrapped(place, weights))
    heads = _ending_in(architecture.output or architecture.head[-1], names)
    if not heads:
        return False
    table = model.get_input_embeddings()
    body = model.base_model
    tables = _ending_in(next(p for p, module in body.named_modules() if module is table), names)
    return bool(tables) and not same_in_files(files, names[heads[0]], names[tables[0]])


def _as_in_model(model: PreTrainedModel, names: dict[str, str]) -> dict[str, str]:
    """The names as the model has them; some families keep older ones in files."""
    renamings = [
        transform
        for transform in get_model_conversion_mapping(model, add_legacy=False)
        if isinstance(transform, WeightRenaming)
    ]
    found = {}
    for name, original in names.items():
        for renaming in renamings:
            name, _ = renaming.rename_source_key(name)
        found[name] = original
    return found


def _ending_in(path: str, names: Mapping[str, str]) -> list[str]:
    """Names of the weight at a path, with any prefix before it."""
    return [name for name in names if f".{name}".endswith(f".{path}.weight")]


def _empty(config: Any, architecture: Architecture) -> PreTrainedModel:
    """The model that a configuration describes, without its weights."""
    try:
        return empty_model(whole_class(architecture), config)
    except Exception as error:  # transformers raises errors of many types for unexpected fields
        raise ModelError(
            f"cannot build a model as config.json says: {first_line(error)}"
        ) from error
