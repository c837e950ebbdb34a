"""The weights of a model as llama.cpp has them: names, layout, and the type of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy import ndarray

from ...errors import ExportError
from ...models.low_rank_layers import dense_parameters

_BLOCK = 32  # neighbouring weights of a row that have one scale
_LARGEST = float(np.finfo(np.float16).max)
# Read one row at a time, and small beside the rest.
_ALWAYS_PLAIN = ("position_embd.weight", "token_types.weight")
# With 4 bits these would lose most, and llama.cpp's own files give them more, too.
_TABLES = ("token_embd.weight", "output.weight")


@dataclass(frozen=True)
class Layout:
    """How llama.cpp names and lays out the weights of a family.

    Attributes:
        architecture: Its name of the family.
        rotates_neighbours: Whether it turns neighbouring coordinates of queries and keys, where
            transformers turns the two halves of a head.
        left_out: Beginnings of the names of modules that it does not have, as they are not used.
        before: What its table of names expects before the names of a body without a head.
    """

    architecture: str
    rotates_neighbours: bool = False
    left_out: tuple[str, ...] = ()
    before: str = ""


def tensors_of(model: Any, layout: Layout, first_position: int) -> Iterator[tuple[str, ndarray]]:
    """The weights by llama.cpp's names, in float32; a tied head is not among them.

    Low-rank layers, of which llama.cpp knows none, are multiplied out.

    Args:
        model: Of transformers.
        layout: Of its family.
        first_position: The row of the table of positions that the first token gets.

    Raises:
        ExportError: llama.cpp has no place for one.
    """
    config = model.config
    kinds = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[layout.architecture], config.num_hidden_layers)
    before = layout.before if model is model.base_model else ""
    for name, weight in dense_parameters(model):
        if name.startswith(layout.left_out):
            continue
        found = names.get_name(before + name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ExportError(
                f"llama.cpp has no place for the weight {name} of a {config.model_type}; export to"
                " another format"
            )
        values = weight.detach().float().numpy()
        if found == "position_embd.weight":
            values = values[first_position:]
        elif layout.rotates_neighbours:
            values = _turned(values, name, config)
        yield found, np.ascontiguousarray(values)


def _turned(values: ndarray, name: str, config: Any) -> ndarray:
    """Queries and keys whose heads have neighbouring coordinates where they had two halves."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])
    if count is None:
        return values
    halves = values.reshape(count, 2, -1, *values.shape[1:])
    turned: ndarray = halves.swapaxes(1, 2).reshape(values.shape)
    return turned


def kind_of(name: str, values: ndarray, wanted: Kind) -> Kind:
    """The type of a tensor in a file.

    Vectors, positions and segments are float32. A matrix whose rows are not a multiple of 32 is
    float16, because 32 weights have one scale. Tables have 8 bits where other matrices have 4.

    Args:
        name: llama.cpp's.
        values: Of the tensor.
        wanted: The type of the file.

    >>> kind_of("token_embd.weight", np.zeros((9, 64)), Kind.Q4_0).name
    'Q8_0'
    >>> kind_of("blk.0.ffn_up.weight", np.zeros((9, 48)), Kind.Q4_0).name
    'F16'
    """
    if values.ndim == 1 or name in _ALWAYS_PLAIN:
        return Kind.F32
    if values.shape[-1] % _BLOCK:
        return Kind.F16
    return Kind.Q8_0 if wanted is Kind.Q4_0 and name in _TABLES else wanted


def packed(name: str, values: ndarray, kind: Kind) -> ndarray:
    """The numbers of a tensor as its type stores them.

    Raises:
        ExportError: One is too large for 16 bits, which scales have, too.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if kind is not Kind.F32 and not largest <= _LARGEST:
        raise ExportError(
            f"the weight {name} has the number {largest:.3g}, and float16 ends at {_LARGEST:.0f};"
            " export to another format"
        )
    return values if kind is Kind.F32 else gguf.quantize(values, kind)
