"""What llama.cpp must know of a model beside its weights.

What it would compute otherwise than the model does is refused.
"""

from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
from numpy import ndarray

from ...errors import ExportError
from ..source import Source
from .weights import Layout

Extra = dict[str, ndarray]
_SAME_FREQUENCIES = 1e-6
_COUNTED_FROM_0 = ("bert", "llama", "mistral", "qwen2", "qwen3")
_LLAMA = Layout("llama", rotates_neighbours=True, before="model.")
_BERT = Layout("bert", left_out=("pooler.",))
_POOLINGS = {
    "mean": gguf.PoolingType.MEAN,
    "cls": gguf.PoolingType.CLS,
    "lasttoken": gguf.PoolingType.LAST,
}


def layout_of(source: Source) -> Layout:
    """How the weights of a model are laid out.

    Raises:
        ExportError: Its family is not written.
    """
    family = source.config.model_type
    if family not in _FAMILIES:
        raise ExportError(
            f"GGUF files are written of the families {', '.join(_FAMILIES)}, and this is {family};"
            " export to another format"
        )
    return _FAMILIES[family][0]


def first_position(config: Any) -> int:
    """The row of the table of positions that the first token gets: behind padding as in RoBERTa."""
    return 0 if config.model_type in _COUNTED_FROM_0 else config.pad_token_id + 1


def add_metadata(writer: gguf.GGUFWriter, source: Source) -> Extra:
    """Add what llama.cpp must know of a model.

    Args:
        writer: Of the file.
        source: A model of a family that `layout_of` knows.

    Returns:
        Further tensors in float32, by llama.cpp's names.

    Raises:
        ExportError: llama.cpp would compute something else.
    """
    config = source.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(source.vocabulary)
    if source.kind in ("vectors", "body"):
        writer.add_pooling_type(_pooling(source))
    return _FAMILIES[config.model_type][1](writer, source)


def _pooling(source: Source) -> gguf.PoolingType:
    """How vectors are pooled; no pooling gives a vector for each token."""
    if source.encoder is None:
        return gguf.PoolingType.NONE
    vectors = source.encoder.vectors
    modes = vectors.pooling.modes
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise _differs(f"the pooling {' and '.join(modes)}; it has {', '.join(_POOLINGS)}")
    if len(vectors.dense):
        raise _differs("Dense layers after the pooling")
    if vectors.truncate_dim is not None:
        raise _differs("vectors that are truncated (truncate_dim)")
    if source.encoder.lowercase:
        raise _differs("texts that are in lower case before they are tokenized")
    return _POOLINGS[modes[0]]


def _encoder(writer: gguf.GGUFWriter, source: Source) -> Extra:
    config = source.config
    if config.hidden_act not in ("gelu", "gelu_new", "gelu_pytorch_tanh"):
        raise _differs(f"the activation {config.hidden_act} in a BERT; it has gelu")
    if config.is_decoder or getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise _differs("a BERT that is a decoder, or without a table of positions")
    writer.add_context_length(config.max_position_embeddings - first_position(config))
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_token_type_count(config.type_vocab_size)
    return {}


def _decoder(writer: gguf.GGUFWriter, source: Source) -> Extra:
    config = source.config
    if config.hidden_act not in ("silu", "swish"):
        raise _differs(f"the activation {config.hidden_act} in a {config.model_type}; it has silu")
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise _differs(f"layers with a sliding window in a {config.model_type}")
    # A window as wide as the whole text is none.
    window = getattr(config, "sliding_window", None) or source.longest
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(min(source.longest, window))
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    return _rotary(writer, source, head)


def _rotary(writer: gguf.GGUFWriter, source: Source, head: int) -> Extra:
    """The frequencies of rotary positions, as transformers has computed them."""
    settings = source.config.rope_parameters
    rotary = source.module.model.base_model.rotary_emb
    kind, theta = settings["rope_type"], settings["rope_theta"]
    found = rotary.inv_freq.double().numpy()
    if kind not in ("default", "linear", "llama3") or rotary.attention_scaling != 1:
        raise _differs(f"rotary positions of the type {kind}")
    if 2 * len(found) != head:
        raise _differs(f"rotary positions in {2 * len(found)} of {head} coordinates of a head")
    writer.add_rope_freq_base(theta)
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(settings["factor"])
        return {}
    plain = theta ** -(np.arange(0, head, 2) / head)
    if np.abs(found / plain - 1).max() < _SAME_FREQUENCIES:
        return {}
    if source.config.model_type not in ("llama", "mistral"):
        raise _differs(f"rotary positions of the type {kind} in a {source.config.model_type}")
    return {"rope_freqs.weight": (plain / found).astype(np.float32)}


def _differs(what: str) -> ExportError:
    return ExportError(f"llama.cpp does not have {what}; export to another format")


_FAMILIES: dict[str, tuple[Layout, Callable[[gguf.GGUFWriter, Source], Extra]]] = {
    "llama": (_LLAMA, _decoder),
    "mistral": (_LLAMA, _decoder),
    "qwen2": (Layout("qwen2", before="model."), _decoder),
    "qwen3": (Layout("qwen3", before="model."), _decoder),
    "bert": (_BERT, _encoder),
    "roberta": (_BERT, _encoder),
    "xlm-roberta": (_BERT, _encoder),
    "camembert": (_BERT, _encoder),
}
