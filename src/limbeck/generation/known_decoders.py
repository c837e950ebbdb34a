"""Decoders of known families as the few functions that a forward over new tokens consists of.

transformers' own forward spends most of its time in Python where a model is small: modules call
modules, and norms, rotations and masks are computed in many steps. All these families are built
alike (a norm, attention, a norm, a feed-forward part, each added to what came in), so that a
forward of a few lines does for all of them what theirs do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, layer_norm, rms_norm
from transformers import PreTrainedModel

from .products import Map, product_of

Positions = Int[Tensor, "rows new"]
# The cosines and the signed sines of rotary positions.
Turns = tuple[Float[Tensor, "tokens 1 size"], Float[Tensor, "tokens 1 size"]]


@dataclass(frozen=True)
class Layer:
    """The parts of a layer.

    Attributes:
        norm: Of what attention reads.
        projected: Queries, keys and values of all heads, side by side.
        head_norms: Of each query and of each key, where they have norms.
        attended: What attention adds, of the heads side by side.
        feed_forward: What the feed-forward part adds, its norm included.
    """

    norm: Map
    projected: Map
    head_norms: tuple[Map, Map] | None
    attended: Map
    feed_forward: Map


@dataclass(frozen=True)
class Decoder:
    """The parts of a decoder.

    Attributes:
        embedded: The vectors that the first layer reads.
        turns: Of rotary positions; None where positions are in the vectors.
        layers: All of them.
        logits: Of the vectors that the last layer gives.
        heads: Of queries.
        groups: Heads of keys and values.
    """

    embedded: Callable[[Tensor, Positions], Float[Tensor, "rows new hidden"]]
    turns: Callable[[Positions], Turns] | None
    layers: tuple[Layer, ...]
    logits: Map
    heads: int
    groups: int


def is_known(model: PreTrainedModel) -> bool:
    """Whether `decoder_of` knows how a model is built."""
    return type(model).__name__ in _FAMILIES and type(model).__module__.startswith("transformers.")


def decoder_of(model: PreTrainedModel, *, places: int, coarse: bool) -> Decoder:
    """The parts of a known model, with its weights as they are now.

    Args:
        model: One that `is_known`, in evaluation mode.
        places: More than any position in a text.
        coarse: Whether large matrices are multiplied in bfloat16.
    """
    return _FAMILIES[type(model).__name__](model, places, coarse)


def _like_llama(model: Any, places: int, coarse: bool) -> Decoder:
    body, config = model.model, model.config

    def layer_of(layer: Any) -> Layer:
        attention, part = layer.self_attn, layer.mlp
        inner = product_of([part.gate_proj, part.up_proj], coarse=coarse)
        outer, activation = product_of([part.down_proj], coarse=coarse), _activation(part.act_fn)
        norm = _norm(layer.post_attention_layernorm)

        def feed_forward(given: Tensor) -> Tensor:
            gate, up = inner(norm(given)).chunk(2, -1)
            return outer(activation(gate) * up)

        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        head_norms = None
        if type(model).__name__ in _WITH_HEAD_NORMS:
            head_norms = _norm(attention.q_norm), _norm(attention.k_norm)
        return Layer(
            _norm(layer.input_layernorm),
            product_of(projections, coarse=coarse),
            head_norms,
            product_of([attention.o_proj], coarse=coarse),
            feed_forward,
        )

    norm, head = _norm(body.norm), product_of([model.lm_head], coarse=coarse)
    return Decoder(
        lambda ids, positions: body.embed_tokens(ids),
        _turns(body, places),
        tuple(map(layer_of, body.layers)),
        lambda given: head(norm(given)),
        config.num_attention_heads,
        config.num_key_value_heads,
    )


def _turns(body: Any, places: int) -> Callable[[Positions], Turns]:
    """A table of the rotations of all positions, which transformers computes for each forward."""
    device = body.embed_tokens.weight.device
    positions = torch.arange(places, device=device)[None]
    cosines, sines = (table[0] for table in body.rotary_emb(body.embed_tokens.weight, positions))
    half = sines.shape[-1] // 2
    # (a, b) becomes (a cos - b sin, b cos + a sin): the halves change places, and one its sign.
    signed = torch.cat([-sines[:, :half], sines[:, half:]], -1)

    def turns(positions: Positions) -> Turns:
        flat = positions.reshape(-1)
        return embedding(flat, cosines)[:, None], embedding(flat, signed)[:, None]

    return turns


def _like_gpt2(model: Any, places: int, coarse: bool) -> Decoder:
    body = model.transformer

    def layer_of(layer: Any) -> Layer:
        attention, part, norm = layer.attn, layer.mlp, _norm(layer.ln_2)
        inner = product_of([part.c_fc], coarse=coarse)
        outer, activation = product_of([part.c_proj], coarse=coarse), _activation(part.act)
        return Layer(
            _norm(layer.ln_1),
            product_of([attention.c_attn], coarse=coarse),
            None,
            product_of([attention.c_proj], coarse=coarse),
            lambda given: outer(activation(inner(norm(given)))),
        )

    norm, head = _norm(body.ln_f), product_of([model.lm_head], coarse=coarse)
    heads = model.config.num_attention_heads
    return Decoder(
        lambda ids, positions: body.wte(ids) + body.wpe(positions),
        None,
        tuple(map(layer_of, body.h)),
        lambda given: head(norm(given)),
        heads,
        heads,
    )


_FAMILIES: dict[str, Callable[[Any, int, bool], Decoder]] = {
    "GPT2LMHeadModel": _like_gpt2,
    "LlamaForCausalLM": _like_llama,
    "MistralForCausalLM": _like_llama,
    "Qwen2ForCausalLM": _like_llama,
    "Qwen3ForCausalLM": _like_llama,
}
_WITH_HEAD_NORMS = ("Qwen3ForCausalLM",)


def _norm(module: Any) -> Map:
    size, weight = module.weight.shape, module.weight.detach()
    if isinstance(module, nn.LayerNorm):
        bias = None if module.bias is None else module.bias.detach()
        return lambda given: layer_norm(given, size, weight, bias, module.eps)
    if weight.dtype != torch.float32:  # transformers computes these in float32 whatever is given
        return module  # type: ignore[no-any-return]
    return lambda given: rms_norm(given, size, weight, module.variance_epsilon)


def _activation(module: Any) -> Map:
    if type(module).__name__ == "NewGELUActivation":  # in eight steps there
        return lambda given: gelu(given, approximate="tanh")
    return module  # type: ignore[no-any-return]
