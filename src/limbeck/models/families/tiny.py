"""A tiny random model of the type of another, on which a row of the table is proposed and proven.

Depth, width, experts and vocabulary are made small. The width of a head stays as it is, because
other fields of a configuration, as those of rotary positions, depend on it.
"""

import copy
import itertools
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedModel,
)

from ...errors import ModelError, first_line
from ..auto_classes import empty_model
from ..quiet import quiet_transformers

_VOCABULARY = 331
_EXPERTS = 16
_MOST_LAYERS = 12
_MOST_PARAMETERS = 300_000_000
_ROWS, _LENGTH = 2, 11
_FEED_FORWARD = re.compile(r"intermediate|inner|ffn|ff_dim|hidden_dim|feed_forward|mlp_dim")
_GROUPS = re.compile(r"(key_value|kv)_?heads?|head_kv|multi_query_group_num")
WIDTHS = re.compile(r"embed\w*_(size|dim)$|hidden_size$|lru_width")
_COUNTS_OF_EXPERTS = re.compile(r"^(num|n)_.*experts$|^moe_num_experts$")


@dataclass(frozen=True)
class Sizes:
    """Sizes of a tiny model. No two are equal, so that an axis of a weight shows what it is."""

    heads: int
    groups: int
    per_hidden: int  # hidden size in widths of a head, where the configuration names that width
    inner: int


SIZES = (Sizes(4, 2, 5, 328), Sizes(4, 4, 4, 328))


@dataclass
class TinyModel:
    """A tiny random model, and what one forward of it has returned.

    Attributes:
        config: Its configuration.
        model: The model, with a vocabulary head where transformers has one for its type.
        layers: Path of the list of layers within the body.
        causal: Whether transformers loads it as a decoder.
        input_ids: Tokens without padding.
        states: The model's own hidden states: the embedding output, and that of every layer.
        logits: The model's own logits; None without a vocabulary head.
        ran: Modules beside the body, in the order in which they ran.
    """

    config: Any
    model: PreTrainedModel
    layers: str
    causal: bool
    input_ids: Int[Tensor, "rows tokens"]
    states: tuple[Float[Tensor, "rows tokens hidden"], ...] = ()
    logits: Float[Tensor, "rows tokens vocabulary"] | None = None
    ran: list[str] = field(default_factory=list)

    @property
    def body(self) -> nn.Module:
        """The model without its head."""
        return self.model.base_model

    def layer(self, number: int) -> nn.Module:
        """The module of a layer."""
        return list(self.body.get_submodule(self.layers).children())[number]


def automatic_class(config: Any) -> tuple[Any, bool]:
    """Transformers' automatic class for a type, and whether it is that of decoders.

    Raises:
        ModelError: It is no model of text alone, or a pair of an encoder and a decoder.
    """
    kind = type(config)
    if "text_config" in config.to_dict():
        raise ModelError("it reads more than text; give the model of its text alone")
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError("it is a pair of an encoder and a decoder, not one list of layers")
    if not isinstance(getattr(config, "num_hidden_layers", None), int):
        raise ModelError(
            "its configuration has no num_hidden_layers: it is no single model of text"
        )
    if not isinstance(getattr(config, "num_attention_heads", None), int):
        raise ModelError("its configuration has no num_attention_heads: it has no attention")
    decoder = bool(getattr(config, "is_decoder", False))
    if kind in MODEL_FOR_MASKED_LM_MAPPING and not decoder:
        return AutoModelForMaskedLM, False
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM, True
    if kind in MODEL_MAPPING:
        return AutoModel, decoder
    raise ModelError("transformers has no model class for it")


def meta_model(config: Any) -> PreTrainedModel:
    """A model without weights.

    Raises:
        ModelError: transformers cannot build it.
    """
    kind, _ = automatic_class(config)
    try:
        with quiet_transformers():
            return empty_model(kind, config)
    except Exception as error:  # of many types, for configurations that do not fit together
        raise ModelError(f"transformers cannot build it: {first_line(error)}") from error


def tiny_model(config: Any) -> TinyModel:
    """A tiny random model of the same type, which has run once.

    Raises:
        ModelError: There is none, or it does not run; the message says why.
    """
    whole = meta_model(config)
    path, depth = _layers(whole.base_model, config)
    problem = ""
    for sizes in SIZES:
        try:
            with quiet_transformers():
                return _run(_built(smaller(config, sizes, depth), path))
        except Exception as error:  # of many types, for sizes that do not fit together
            problem = problem or first_line(error).split(". ")[0]
    raise ModelError(f"a small one does not run ({problem})")


def smaller(config: Any, sizes: Sizes, depth: int) -> Any:
    """The same configuration with small sizes."""
    small, fields = copy.deepcopy(config), config.to_dict()
    layers, heads, hidden = (
        config.num_hidden_layers,
        config.num_attention_heads,
        config.hidden_size,
    )
    free = isinstance(fields.get("head_dim"), int)
    narrow = head_width(config) * (sizes.per_hidden if free else sizes.heads)
    widths, others = itertools.count(sizes.inner, 16), itertools.count(72, 16)
    for name, value in fields.items():
        if name.endswith("_token_id"):
            setattr(small, name, value if value is None else _small_id(value))
        elif isinstance(value, list) and len(value) == layers:
            setattr(small, name, value[:depth])
        elif not isinstance(value, int) or isinstance(value, bool):
            continue
        elif _COUNTS_OF_EXPERTS.search(name):
            setattr(small, name, min(value, _EXPERTS))
        elif _GROUPS.search(name):
            # As many as query heads, which some types need, also where these are few.
            setattr(small, name, sizes.heads if value == heads else min(value, sizes.groups))
        elif _FEED_FORWARD.search(name) and is_size(value):
            setattr(small, name, next(widths))
        elif WIDTHS.search(name):
            setattr(small, name, narrow if value == hidden else next(others))
        elif "vocab_size" in name:
            setattr(small, name, _VOCABULARY)
    small.num_hidden_layers, small.vocab_size = depth, _VOCABULARY
    small.num_attention_heads, small.hidden_size = sizes.heads, narrow
    vars(small).pop("quantization_config", None)
    small.dtype = "float32"
    return small


def head_width(config: Any) -> int:
    """Width of a head."""
    given: int | None = getattr(config, "head_dim", None)
    return given or config.hidden_size // config.num_attention_heads or 1


def is_size(value: Any) -> bool:
    """Whether a field of a configuration is a width."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 32


def _small_id(value: Any) -> Any:
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, int) and 0 <= first < 10 else 9


def _layers(body: nn.Module, config: Any) -> tuple[str, int]:
    """Path of the list of layers, and how many of them show every kind of layer.

    Raises:
        ModelError: There is no such list.
    """
    count = config.num_hidden_layers
    lists = {
        path: list(module)
        for path, module in body.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    weights = {
        path: sum(p.numel() for m in found for p in m.parameters()) for path, found in lists.items()
    }
    largest = max(weights, key=lambda path: weights[path], default=None)
    if largest is None or 2 * weights[largest] < sum(weights.values()):
        said = ", ".join(lists) or "none"
        raise ModelError(f"no one list of its modules holds its {count} layers (lists: {said})")
    kinds = config.to_dict().get("layer_types") or [""] * count
    marks = [
        (tuple(name for name, _ in layer.named_parameters()), kinds[number])
        for number, layer in enumerate(lists[largest])
    ]
    needed = 1 + max(marks.index(mark) for mark in marks)
    return largest, min(count, max(3, needed), _MOST_LAYERS)


def _built(config: Any, layers: str) -> TinyModel:
    kind, causal = automatic_class(config)
    size = sum(parameter.numel() for parameter in meta_model(config).parameters())
    if size > _MOST_PARAMETERS:
        raise ModelError(f"what is made small still has {size / 1e6:,.0f}M parameters")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(0)
        model: PreTrainedModel = kind.from_config(config, dtype=torch.float32)
        _enlarge(model)
        ids = torch.randint(20, config.vocab_size, (_ROWS, _LENGTH))
    return TinyModel(config, model.train(False), layers, causal, ids)


def _enlarge(model: nn.Module) -> None:
    """Larger than a real initialization, so that a wrong module shows in every number."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and not parameter.eq(0).all():
                parameter.mul_(3)
            elif parameter.dim() == 1 and (name.endswith("bias") or "norm" in name.lower()):
                parameter.add_(0.1 * torch.randn(len(parameter)))


def _run(tiny: TinyModel) -> TinyModel:
    model, body = tiny.model, tiny.body
    beside = [] if model is body else [n for n, m in model.named_children() if m is not body]
    handles = [
        model.get_submodule(name).register_forward_hook(lambda m, g, o, n=name: tiny.ran.append(n))
        for name in beside
    ]
    mask = torch.ones_like(tiny.input_ids)
    try:
        with torch.no_grad():
            output = model(input_ids=tiny.input_ids, attention_mask=mask, output_hidden_states=True)
    finally:
        for handle in handles:
            handle.remove()
    tiny.states = tuple(output.hidden_states or ())
    tiny.logits = output.get("logits")
    return tiny
