"""A model's files without the rows of tokens that are no longer read; all else stays as it is.

Source: Abdaoui et al. 2020, Load What You Need, arXiv:2010.05609.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ModelError
from ..models.architecture import Architecture
from ..models.weight_files import INDEX, WHOLE, read_headers


def weights_of_tokens(model: PreTrainedModel, architecture: Architecture) -> dict[str, Tensor]:
    """Every weight that has a row for each token, by its name: tables, heads, biases of logits."""
    output: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    table: Any = model.get_input_embeddings()
    found = [table.weight, *(output.parameters(recurse=False) if output is not None else ())]
    named = dict(model.named_parameters(remove_duplicate=False))
    found += [named[name] for name in (architecture.output_bias,) if name in named]
    of_tokens = set(map(id, found))
    return {name: one.detach() for name, one in named.items() if id(one) in of_tokens}


def write_fewer_tokens(
    files: Sequence[Path],
    of_tokens: Mapping[str, Tensor],
    kept: Int[Tensor, " kept"],
    folder: Path,
) -> None:
    """Write the weights of a model again, of some only the rows of the tokens that stay.

    Args:
        files: Of the model, safetensors.
        of_tokens: As `weights_of_tokens` gives them, in float32.
        kept: The number that each token had.
        folder: To write into.

    Raises:
        ModelError: No weight of the files has rows of tokens.
    """
    index, shortened, size = {}, 0, 0
    for file in files:
        own = WHOLE if len(files) == 1 else file.name
        weights: dict[str, Tensor] = {}
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - no mapping
                weight = stored.get_tensor(name)
                has_rows = any(_same(name, weight, *other) for other in of_tokens.items())
                weights[name] = weight[kept].contiguous() if has_rows else weight
                shortened += has_rows
                size += weights[name].nbytes
                index[name] = own
        save_file(weights, folder / own, metadata={"format": "pt"})
    if not shortened:
        raise ModelError(
            f"{files[0].parent} has no weight like {', '.join(sorted(of_tokens))}; save the model"
            " again with transformers"
        )
    if len(files) > 1:
        content = {"metadata": {"total_size": size}, "weight_map": index}
        (folder / INDEX).write_text(json.dumps(content, indent=2), encoding="utf-8")


def parameters_in(files: Sequence[Path]) -> int:
    """Numbers in the weights of a model's files."""
    return sum(math.prod(header.shape) for header in read_headers(files).values())


def renumber_tokens(config: Any, numbers: Mapping[int, int | None]) -> None:
    """Give the tokens that a configuration names their new numbers, in place.

    Args:
        config: Of a model, of its text, or of its generation.
        numbers: The new number of each token by its old one; None for a token that is left out. A
            number that belonged to no token stays as it is.
    """
    for name, value in list(vars(config).items()):
        if not name.endswith(("_token_id", "_token_ids")):
            continue
        if isinstance(value, int):
            setattr(config, name, numbers.get(value, value))
        elif isinstance(value, list):
            stay = [numbers.get(one, one) for one in value]
            setattr(config, name, [one for one in stay if one is not None] or None)


def _same(stored: str, weight: Tensor, name: str, loaded: Tensor) -> bool:
    """Whether a stored weight is the loaded one: by its name, with or without the body's prefix.

    Or by its numbers, where transformers gives it another name as it loads it.
    """
    if weight.shape != loaded.shape:
        return False
    if stored == name or stored.endswith(f".{name}") or name.endswith(f".{stored}"):
        return True
    return torch.equal(weight.float(), loaded)
