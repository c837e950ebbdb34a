"""Tiny GGUF files, written as llama.cpp's converter writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from transformers import PreTrainedModel, PreTrainedTokenizerFast


def write_gguf(
    file: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast | None,
    *,
    kind: Kind = Kind.F32,
    architecture: str | None = None,
    extra: dict[str, np.ndarray] | None = None,
) -> Path:
    """A file of a tiny model whose matrices are of one type.

    Args:
        file: Where it is written.
        model: A llama, qwen3, gpt2 or gemma2.
        tokenizer: Byte-level BPE; None leaves it out.
        kind: The type of all matrices.
        architecture: What the file says it holds; by default the truth.
        extra: Further tensors.
    """
    config = model.config
    writer = gguf.GGUFWriter(file, architecture or config.model_type)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(config.head_dim)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gemma2":
        writer.add_sliding_window(config.sliding_window)
    if tokenizer is not None:
        add_tokenizer(writer, tokenizer)
    for name, values in tensors(model).items():
        matrix = values.ndim > 1
        data = gguf.quantize(values, kind) if matrix and kind is not Kind.F32 else values
        writer.add_tensor(name, data, raw_dtype=kind if matrix else Kind.F32)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in state["merges"]])
    writer.add_bos_token_id(tokenizer.cls_token_id)
    writer.add_eos_token_id(tokenizer.sep_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)


def tensors(model: PreTrainedModel) -> dict[str, np.ndarray]:
    """llama.cpp's names and layout of all weights."""
    config: Any = model.config
    kinds = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[config.model_type], config.num_hidden_layers)
    tied = set(model.all_tied_weights_keys)
    found = {}
    for name, weight in model.state_dict().items():
        place, _, end = name.rpartition(".")
        if name in tied or (written := names.get_name(place)) is None:
            continue
        values = weight.float().numpy()
        layout = _LAYOUTS.get(config.model_type, _as_is)
        found[f"{written}.{end}"] = np.ascontiguousarray(layout(values, name, config))
    return found


def _as_is(values: np.ndarray, name: str, config: Any) -> np.ndarray:
    return values


def _llama(values: np.ndarray, name: str, config: Any) -> np.ndarray:
    """llama.cpp turns neighbouring coordinates, transformers the two halves of a head."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])
    if count is None:
        return values
    halves = values.reshape(count, 2, values.shape[0] // count // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _gpt2(values: np.ndarray, name: str, config: Any) -> np.ndarray:
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    return values.T if name.endswith(turned) else values


def _gemma(values: np.ndarray, name: str, config: Any) -> np.ndarray:
    return values + 1 if "norm" in name else values


_LAYOUTS: dict[str, Callable[[np.ndarray, str, Any], np.ndarray]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "gemma2": _gemma,
}
