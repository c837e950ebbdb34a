"""Whether a vocabulary head is really tied to the embedding table, as the configuration says.

transformers keeps a head with other numbers, whatever the configuration says; a model that is
built from the configuration alone would be a different one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ..errors import ModelError, first_line
from .auto_classes import body_class
from .families import ARCHITECTURES
from .weight_files import read_headers, same_in_files, weight_files
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
    if architecture is None or not architecture.head or files is None:
        return False
    state = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    read = _Config(config.to_json_string(), config)
    return _in_state(place, read, architecture.output or architecture.head[-1], state)


@dataclass(frozen=True)
class _Config:
    """A hashable configuration: two are equal where their texts are."""

    text: str
    built: Any = field(compare=False)


# Cached, because the configuration of a model is read many times.
@lru_cache(maxsize=64)
def _in_state(
    place: str, config: _Config, head: str, state: tuple[tuple[Path, int, int], ...]
) -> bool:
    files = [file for file, _, _ in state]
    weights = read_headers(files)
    check_layers(place, config.built, weights)
    names = unwrapped(place, weights)
    heads = _ending_in(head, names)
    if not heads:
        return False
    tables = _ending_in(_embedding_path(config.built), names)
    return bool(tables) and not same_in_files(files, names[heads[0]], names[tables[0]])


def _ending_in(path: str, names: Sequence[str] | dict[str, str]) -> list[str]:
    """Names of the weight at a path, with any prefix before it."""
    return [name for name in names if f".{name}".endswith(f".{path}.weight")]


def _embedding_path(config: Any) -> str:
    """Where a model's body keeps its embedding table."""
    try:
        with torch.device("meta"):
            body: PreTrainedModel = body_class(config.model_type).from_config(config)
    except Exception as error:  # transformers raises errors of many types for unexpected fields
        raise ModelError(
            f"cannot build a model as config.json says: {first_line(error)}"
        ) from error
    table = body.get_input_embeddings()
    path: str = next(path for path, module in body.named_modules() if module is table)
    return path
