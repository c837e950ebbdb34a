"""GGUF files, read by transformers: what their headers say, and models in plain precision.

transformers turns every tensor of such a file back into floating-point numbers; what a quantized
file has lost stays lost.
"""

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.integrations.gguf import reader
from transformers.modeling_gguf_pytorch_utils import (
    GGUF_SUPPORTED_ARCHITECTURES,
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from ..errors import ModelError, first_line
from .quiet import quiet_transformers
from .weight_files import Header, first_few

_PLAIN = {"F32", "F16", "BF16"}
_HEAD = "output."
# What transformers leaves out and computes from the configuration: frequencies of rotary positions,
# which files of long-context models hold already stretched.
_FREQUENCIES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_INSTEAD = "give the model's transformers folder with safetensors"


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: its shape in torch's order, and the name of its type."""

    shape: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class GgufHeader:
    """What a file says before its numbers.

    Attributes:
        architecture: llama.cpp's name of the family.
        tensors: By llama.cpp's names.
        vocabulary: Number of tokens; 0 where the file holds no tokenizer.
        head_dim: Width of the keys of a head; 0 where the file does not say it.
    """

    architecture: str
    tensors: Mapping[str, Tensor]
    vocabulary: int
    head_dim: int


def gguf_header(file: Path) -> GgufHeader:
    """The header of a file, checked.

    Raises:
        ModelError: The file is damaged or incomplete, or transformers cannot read what it holds.
    """
    state = file.stat()
    return _header_in_state(file, state.st_size, state.st_mtime_ns)


# Cached, because a plan looks a model up many times, and a vocabulary takes seconds to read.
@lru_cache(maxsize=8)
def _header_in_state(file: Path, size: int, modified_ns: int) -> GgufHeader:
    try:
        # The library's reader of headers alone is private; its public ones take seconds, because
        # they read the vocabulary too.
        blob = reader._mapped(str(file))
        metadata, count, place = reader._read_metadata(blob, str(file))
        entries, end = reader._read_tensor_table(blob, count, place)
        types = {name: gguf.GGMLQuantizationType(kind) for name, _, kind, _ in entries}
        alignment = int(metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT))
        begin = -(-end // alignment) * alignment
        ends = [begin + offset + _bytes(shape, types[name]) for name, shape, _, offset in entries]
    except Exception as error:  # errors of many types, as the bytes may say anything
        raise ModelError(
            f"{file} is no GGUF file, or a damaged one ({type(error).__name__}: {error!s:.80});"
            " copy it again"
        ) from error
    if max(ends, default=begin) > size:
        raise ModelError(
            f"{file} is incomplete: its header describes {max(ends):,} bytes, and it has {size:,};"
            " copy it again"
        )
    architecture = str(metadata["general.architecture"])
    if architecture not in GGUF_SUPPORTED_ARCHITECTURES:
        raise ModelError(
            f"{file} holds a model of the architecture {architecture!r}, and transformers reads"
            f" GGUF files of {', '.join(sorted(GGUF_SUPPORTED_ARCHITECTURES))}; {_INSTEAD}"
        )
    if unread := sorted({kind.name for kind in set(types.values()) if not _is_read(kind)}):
        raise ModelError(
            f"{file} holds tensors of the types {', '.join(unread)}, which the installed gguf"
            f" cannot dequantize; {_INSTEAD}, or a file of another type, as Q8_0"
        )
    tensors = {name: Tensor(shape, types[name].name) for name, shape, _, _ in entries}
    # The reader leaves lists of texts as their length.
    vocabulary = int(metadata.get("tokenizer.ggml.tokens", 0))
    head_dim = int(metadata.get(f"{architecture}.attention.key_length", 0))
    return GgufHeader(architecture, tensors, vocabulary, head_dim)


def gguf_config(file: Path) -> Any:
    """The transformers configuration that a file describes.

    Raises:
        ModelError: As for `gguf_header`; or the configuration cannot be made.
    """
    gguf_header(file)
    state = file.stat()
    return copy.deepcopy(_config_in_state(file, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=8)
def _config_in_state(file: Path, size: int, modified_ns: int) -> Any:
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name)
    except Exception as error:
        raise ModelError(
            f"cannot read the configuration in {file}: {first_line(error)}; copy it again, or"
            f" {_INSTEAD}"
        ) from error
    vars(config).pop("_model_name_or_path", None)  # a title, and no place
    # transformers reads it of few families, and leaves others what their class says.
    if (head_dim := _header_in_state(file, size, modified_ns).head_dim) and "head_dim" in vars(
        config
    ):
        config.head_dim = head_dim
    return config


def gguf_note(name: str, file: Path) -> str:
    """A note on what the numbers of a model went through.

    Args:
        name: The name that the user gave.
        file: Its file.
    """
    tensors = gguf_header(file).tensors
    kinds = Counter(t.kind for t in tensors.values() if len(t.shape) > 1)
    listed = ", ".join(f"{kind} ({n} of {sum(kinds.values())})" for kind, n in kinds.most_common())
    lossy = [kind for kind in kinds if kind not in _PLAIN]
    said = "dequantized from" if lossy else "read in"
    note = f"{name!r} is a GGUF file, whose matrices are {said} {listed}"
    if lossy:
        note += "; what quantization took from the original model is missing in its signals"
    if left := [weight for weight in _FREQUENCIES if weight in tensors]:
        note += (
            f". transformers leaves out {', '.join(left)}, so positions may differ from those that"
            " the model was trained with; compare with the original folder before long texts"
        )
    return note


def gguf_weights(name: str, file: Path, empty: PreTrainedModel) -> dict[str, Header]:
    """The headers of the weights that a model will get, by their names in it.

    Args:
        name: The name that the user gave.
        file: Its file.
        empty: The model, on the meta device.

    Raises:
        ModelError: The file has tensors that transformers would leave out without a word.
    """
    header = gguf_header(file)
    names = _names_in_model(header, empty)
    left = _without_place(header, names)
    if left:
        raise ModelError(
            f"{name!r} holds {len(left)} tensors that {type(empty).__name__} has no place for:"
            f" {first_few(left)}; transformers would leave them out, and the model would compute"
            f" something else: {_INSTEAD}"
        )
    described = {key: weight.shape for key, weight in empty.state_dict().items()}
    found = {}
    for tensor, (shape, kind) in ((t, (h.shape, h.kind)) for t, h in header.tensors.items()):
        if tensor in names:
            # Some families keep their axes in another order: the number of elements decides.
            wanted = tuple(described[names[tensor]])
            same = prod(wanted) == prod(shape)
            found[names[tensor]] = Header(
                wanted if same else shape, kind if kind in _PLAIN else "F32"
            )
    return found


def _names_in_model(header: GgufHeader, empty: PreTrainedModel) -> dict[str, str]:
    """The model's names of a file's tensors, as transformers finds them."""
    of_family: Any = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
    processor = of_family(config=empty.config.to_dict())
    # transformers looks at every module of the model in turn, which takes half a minute; the
    # whole model's own names are enough for most families.
    whole = SimpleNamespace(
        config=empty.config, state_dict=empty.state_dict, named_children=lambda: ()
    )
    names: dict[str, str] = get_gguf_hf_weights_map(whole, processor)
    return get_gguf_hf_weights_map(empty, processor) if _without_place(header, names) else names


def _without_place(header: GgufHeader, names: Mapping[str, str]) -> list[str]:
    """Tensors that become no weight of the model, though it needs them."""
    return [
        tensor
        for tensor in header.tensors
        if tensor not in names and tensor not in _FREQUENCIES and not tensor.startswith(_HEAD)
    ]


def load_gguf(kind: Any, config: Any, file: Path) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A plain model in float32, and transformers' loading information.

    Args:
        kind: One of transformers' classes.
        config: Its configuration.
        file: Its file.
    """
    with quiet_transformers():
        loaded: Any = kind.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    model, facts = loaded
    # The numbers are plain ones now; marked as quantized, the model could not be saved.
    if "quantization_config" in vars(model.config):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    return model, facts


def narrow(model: PreTrainedModel, precision: torch.dtype) -> None:
    """Hold all matrices and tables in the precision of the file, in place."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.to(precision)


def _bytes(shape: tuple[int, ...], kind: gguf.GGMLQuantizationType) -> int:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return -(-prod(shape) // block) * size


def _is_read(kind: gguf.GGMLQuantizationType) -> bool:
    """Whether the library turns this type into floating-point numbers."""
    if kind.name in _PLAIN:
        return True
    try:
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True
