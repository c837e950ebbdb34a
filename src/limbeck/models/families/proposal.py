"""A row of the table for a type that is not in it, read off the modules of a tiny model.

What is read off may be wrong: `proof` says what of it holds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from ..architecture import Architecture, Positions
from .tiny import TinyModel, head_width, is_size

_FUSED = re.compile(r"qkv|query_key_value|^c_attn$|^in_proj$|^w_pack$", re.IGNORECASE)
_NORM = re.compile(r"norm|ln", re.IGNORECASE)
_GROUP_FIELDS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
_HEAD_DIM_FIELDS = ("head_dim", "attention_head_size", "d_kv", "kv_channels")
_INNER_FIELDS = re.compile(r"intermediate|inner|ffn|ff_dim|hidden_dim|feed_forward|mlp_dim")
_SOFT_CAP = re.compile(r"logit.*soft_?cap")
_DIVISORS = ("logits_scaling",)
_MULTIPLIERS = ("logit_scale",)


@dataclass(frozen=True)
class Projections:
    """Where queries, keys and values may be: those fields of a row that say it."""

    query: str
    key: str
    value: str
    query_norm: str = ""
    key_norm: str = ""
    norms_by_head: bool = False
    grouped: bool = False

    def in_row(self, row: Architecture) -> Architecture:
        """A row with these projections."""
        return replace(row, **vars(self))


def proposed_row(tiny: TinyModel) -> Architecture:
    """The row of a type, as far as its modules and its configuration show it."""
    head, output = _head(tiny)
    paths = next(candidates(tiny), Projections("", "", ""))
    row = Architecture(
        layers=tiny.layers,
        query="",
        key="",
        value="",
        head=head,
        output=output,
        causal=tiny.causal,
        positions=_positions(tiny),
        positions_after_padding=_after_padding(tiny),
        inputs_first=any(type(m).__name__ == "Conv1D" for m in tiny.body.modules()),
        norms_add_one=_norms_add_one(tiny),
        intermediate_field=_intermediate_field(tiny),
        key_value_heads_field=_field(tiny.config, _GROUP_FIELDS, "num_key_value_heads"),
        head_dim_field=_field(tiny.config, _HEAD_DIM_FIELDS, "head_dim"),
        logits_divisor_field=_field(tiny.config, _DIVISORS, ""),
        logits_multiplier_field=_field(tiny.config, _MULTIPLIERS, ""),
        soft_cap_field=_soft_cap_field(tiny.config),
    )
    return paths.in_row(row)


def as_yaml(row: Architecture) -> str:
    """A row as a recipe has it, in one line; what is as in most families is left out.

    >>> as_yaml(Architecture(layers="h", query="q", key="k", value="v", causal=True))
    'teacher: {model: ..., architecture: {layers: h, query: q, key: k, value: v, causal: true}}'
    """
    shown = {
        field.name: list(value) if isinstance(value := getattr(row, field.name), tuple) else value
        for field in fields(row)
        if field.name != "axes" and getattr(row, field.name) != field.default
    }
    flow = yaml.safe_dump(shown, default_flow_style=True, sort_keys=False, width=10_000)
    return f"teacher: {{model: ..., architecture: {flow.strip()}}}"


def candidates(tiny: TinyModel) -> Iterator[Projections]:
    """Modules that may return queries, keys and values, the most plausible first."""
    found: dict[Projections, None] = {}
    for number in range(tiny.config.num_hidden_layers):
        layer = tiny.layer(number)
        for triple in (*_triples(layer), *_fused(layer, tiny)):
            for norms, grouped in product(_norms(layer, triple[0]), (False, True)):
                if grouped and triple[0] != triple[1]:
                    continue
                for by_head in (False, True) if norms[0] else (False,):
                    found[Projections(*triple, *norms, by_head, grouped)] = None
    return iter(found)


def _triples(layer: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Paths that differ only in the words for query, key and value."""
    paths = {path for path, module in layer.named_modules() if _has_matrix(module)}
    for path in sorted(paths, key=lambda path: (path.count("."), path)):
        parent, _, leaf = path.rpartition(".")
        dot = parent + "." if parent else ""
        for key, value in _replaced(leaf):
            if {dot + key, dot + value} <= paths:
                yield path, dot + key, dot + value


def _replaced(leaf: str) -> Iterator[tuple[str, str]]:
    """A name of queries with the words for keys and values in place of that for queries."""
    for query, key, value in (("query", "key", "value"), ("q", "k", "v")):
        for found in re.finditer(query, leaf):
            before, after = leaf[: found.start()], leaf[found.end() :]
            yield before + key + after, before + value + after


def _fused(layer: nn.Module, tiny: TinyModel) -> Iterator[tuple[str, str, str]]:
    """Modules that return as much as queries, keys and values together."""
    heads, width = tiny.config.num_attention_heads, head_width(tiny.config)
    groups = getattr(tiny.config, _field(tiny.config, _GROUP_FIELDS, "-"), None) or heads
    whole = {(heads + 2 * n) * width for n in (heads, groups, 1)}
    for path, module in layer.named_modules():
        named = _FUSED.search(path.rpartition(".")[2])
        if named and _has_matrix(module) and whole & set(module.weight.shape):
            yield path, path, path


def _norms(layer: nn.Module, query: str) -> list[tuple[str, str]]:
    """Norms over queries and keys beside the projection, and none."""
    parent = query.rpartition(".")[0]
    dot = parent + "." if parent else ""
    beside = dict(layer.get_submodule(parent).named_children())
    pairs = [
        (dot + name, dot + key)
        for name in beside
        if _NORM.search(name)
        for key, _ in _replaced(name)
        if key in beside
    ]
    return [*pairs, ("", "")]


def _has_matrix(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() >= 2


def _head(tiny: TinyModel) -> tuple[tuple[str, ...], str]:
    """The modules behind the body in the order in which they ran, and the last linear map."""
    model: Any = tiny.model
    output = model.get_output_embeddings() if tiny.ran else None
    if output is None:
        return (), ""
    path = next((name for name, module in tiny.model.named_modules() if module is output), "")
    return tuple(tiny.ran), "" if path == tiny.ran[-1] else path


def _positions(tiny: TinyModel) -> Positions:
    names = [
        f"{name} {type(module).__name__}".lower() for name, module in tiny.body.named_modules()
    ]
    said = {name.lower() for name in tiny.config.to_dict()}
    if any("rotary" in name for name in names) or said & {"rope_parameters", "rotary_dim"}:
        return "rotary"
    if any("position" in name or "wpe" in name for name in names):
        return "table"
    return "alibi" if "alibi" in str(tiny.config.to_dict()) else "relative"


def _after_padding(tiny: TinyModel) -> bool:
    return any(
        "position" in name and getattr(module, "padding_idx", None) is not None
        for name, module in tiny.body.named_modules()
    )


def _norms_add_one(tiny: TinyModel) -> bool:
    """Whether a norm with a weight of zeros lets its input through."""
    for name, module in (*tiny.layer(0).named_children(), *tiny.body.named_children()):
        weight = getattr(module, "weight", None)
        if _NORM.search(name) and isinstance(weight, Tensor) and weight.dim() == 1:
            kept = weight.detach().clone()
            with torch.no_grad():
                weight.zero_()
                passed = module(torch.randn(1, 1, len(weight)))
                weight.copy_(kept)
            bias = getattr(module, "bias", None)
            added = passed if bias is None else passed - bias
            return bool(added.abs().max() > 0)
    return False


def _intermediate_field(tiny: TinyModel) -> str:
    """The field whose value is the width of a linear layer outside attention."""
    widths = {
        size
        for module in tiny.layer(0).modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor) and weight.dim() == 2
        for size in weight.shape
    }
    named = tiny.config.to_dict()
    given = [str(name) for name in ("intermediate_size", *named) if _INNER_FIELDS.search(name)]
    known = [name for name in given if is_size(getattr(tiny.config, name, None))]
    for name in known:
        if getattr(tiny.config, name) in widths:
            return name
    left_out = [name for name in given if name in named and named[name] is None]
    return next(iter(left_out), known[0] if known else "")


def _field(config: Any, names: tuple[str, ...], default: str) -> str:
    return next((name for name in names if getattr(config, name, None) is not None), default)


def _soft_cap_field(config: Any) -> str:
    return next((name for name in map(str, config.to_dict()) if _SOFT_CAP.search(name)), "")
