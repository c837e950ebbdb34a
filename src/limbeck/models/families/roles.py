"""The roles of the axes of a tiny model's weights, told by their sizes and proven by a reordering.

Where all roles are right, heads, feed-forward units and coordinates of the states can be put in
another order without a change of what the model computes: exactly then a narrower student can
take some of them.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ...errors import ModelError
from ..architecture import Architecture, Axes
from ..projections import projections_of, split_projection
from ..shapes import Shape, head_counts, shape_of
from .tiny import WIDTHS, TinyModel, head_width, meta_model

Order = Int[Tensor, " size"]
_POSITIONS = re.compile(r"pos|wpe")


@dataclass(frozen=True)
class _Sizes:
    """The sizes that axes have, by their roles."""

    hidden: int
    heads: int
    head: int
    groups: int
    inner: int
    embedding: int

    @property
    def qkv(self) -> int:
        return self.heads + 2 * self.groups

    def of(self, role: str) -> int | None:
        """The size of an axis with a role; None for an axis that never changes."""
        doubled = {"gated": 2 * self.inner, "gated_heads": 2 * self.heads}
        return doubled.get(role, getattr(self, role, None))


def axis_roles_of(tiny: TinyModel, row: Architecture) -> dict[str, Axes]:
    """The roles of every weight's axes by its name, the body's names without the body's own.

    Raises:
        ModelError: The sizes of the model are not known.
    """
    sizes = _sizes_of(tiny.config, tiny.body, row)
    modules = dict(tiny.body.named_modules())
    found: dict[str, Axes] = {}
    for name, weight in _weights(tiny.model).items():
        inside = _inside_layer(name, row)
        parent = name.rpartition(".")[0]
        fitted = [_role(size, sizes) for size in weight.shape]
        if isinstance(modules.get(parent), nn.Embedding):
            table = row.positions == "table" and _POSITIONS.search(parent)
            fitted[0] = "positions" if table else "same"
            if weight.shape[1] == sizes.head:  # additions to the scores of each head
                fitted[1] = "head"
        elif inside and row.query:
            fitted = _of_attention(inside, list(weight.shape), fitted, row, sizes)
        found[name] = tuple(fitted)
    return found


def as_axes(roles: Mapping[str, Axes], row: Architecture) -> tuple[tuple[str, Axes], ...]:
    """Roles as a row has them: by the end of a name, longer ends first."""
    ends: dict[str, Axes] = {}
    for name, axes in roles.items():
        stem, _, kind = name.rpartition(".")
        if kind != "bias" or f"{stem}.weight" not in roles:
            ends[_inside_layer(name, row) or name] = axes
    return tuple(sorted(ends.items(), key=lambda item: (-len(item[0]), item[0])))


def reordering_problem(tiny: TinyModel, row: Architecture, roles: Mapping[str, Axes]) -> str | None:
    """Why heads, feed-forward units and coordinates cannot be chosen by these roles; or None."""
    found = {role for axes in roles.values() for role in axes}
    if not found & {"inner", "gated"}:
        return "no weight is as wide as the feed-forward should be"
    if problem := _narrower_problem(tiny, row, roles):
        return problem
    sizes = _sizes_of(tiny.config, tiny.body, row)
    orders = _orders(tiny.config, row, sizes)
    weights, kept = _weights(tiny.model), {}
    with torch.no_grad():
        for name, weight in weights.items():
            kept[name] = weight.detach().clone()
            moved = kept[name]
            for axis, role in enumerate(roles[name]):
                if role in orders:
                    moved = moved.index_select(axis, orders[role])
            weight.copy_(moved)
        ids = tiny.input_ids
        asked = {"attention_mask": torch.ones_like(ids), "output_hidden_states": True}
        output = tiny.model(input_ids=ids, **asked)
        for name, weight in weights.items():
            weight.copy_(kept[name])
    # The last state may be mapped to another width.
    own, others = tiny.states[1:-1], output.hidden_states[1:-1]
    same = all(
        _close(state[..., orders["hidden"]], other)
        for state, other in zip(own, others, strict=True)
    )
    if tiny.logits is not None:
        same = same and _close(tiny.logits, output.logits)
    return None if same else "its heads, units and coordinates cannot be put in another order"


def _narrower_problem(tiny: TinyModel, row: Architecture, roles: Mapping[str, Axes]) -> str | None:
    """Weights whose sizes, in a narrower model, are not those that their roles say."""
    try:
        config = _narrower(tiny.config, row)
        other = meta_model(config)
        sizes = _sizes_of(config, other.base_model, row)
    except ModelError as error:
        return f"a narrower one cannot be built ({error})"
    for name, weight in _weights(other).items():
        expected = [sizes.of(role) for role in roles.get(name, ())]
        wide = _weights(tiny.model)[name].shape if name in roles else ()
        said = [s or w for s, w in zip(expected, wide, strict=True)]
        if said != list(weight.shape):
            return f"the axes of {name} are not understood"
    return None


def _narrower(config: Any, row: Architecture) -> Any:
    """A configuration in which every size is smaller that a recipe can make smaller."""
    narrow, width = copy.deepcopy(config), head_width(config)
    heads, groups = head_counts(config, row)
    narrow.num_attention_heads = heads // 2
    if getattr(config, row.key_value_heads_field, None) is not None:
        setattr(narrow, row.key_value_heads_field, groups // 2 or 1)
    free = config.hidden_size != heads * width
    hidden = width * (heads // 2 + free)
    for name, value in config.to_dict().items():
        if WIDTHS.search(name) and value == config.hidden_size:
            setattr(narrow, name, hidden)
    narrow.hidden_size = hidden
    if getattr(config, row.intermediate_field or "-", None) is not None:
        setattr(narrow, row.intermediate_field, 136)
    return narrow


def _weights(model: Any) -> dict[str, nn.Parameter]:
    """Parameters by name, those of the body without the body's own name."""
    prefix = model.base_model_prefix + "." if model is not model.base_model else ""
    return {name.removeprefix(prefix): weight for name, weight in model.named_parameters()}


def _inside_layer(name: str, row: Architecture) -> str | None:
    """A weight's name within its layer; None outside all layers."""
    prefix = row.layers + "."
    return name[len(prefix) :].split(".", 1)[1] if name.startswith(prefix) else None


def _sizes_of(config: Any, body: Any, row: Architecture) -> _Sizes:
    shape: Shape = shape_of(config, row)
    return _Sizes(
        hidden=shape.hidden_size,
        heads=shape.query_width,
        head=shape.num_attention_heads,
        groups=shape.key_width,
        inner=shape.intermediate_size,
        embedding=body.get_input_embeddings().weight.shape[1],
    )


def _role(size: int, sizes: _Sizes) -> str:
    """The role of an axis outside attention."""
    for role in ("hidden", "embedding", "inner", "gated"):
        if size == sizes.of(role):
            return role
    return "same"


def _of_attention(
    inside: str, shape: list[int], fitted: list[str], row: Architecture, sizes: _Sizes
) -> list[str]:
    """Roles within a layer, where axes of heads may be as large as others."""
    parent = inside.rpartition(".")[0]
    outputs = len(shape) - 1 if row.inputs_first and len(shape) == 2 else 0
    if known := _projected(parent, row):
        fitting = (role for role in known if shape[outputs] == sizes.of(role))
        role = next(fitting, "same")
        return [role if axis == outputs else part for axis, part in enumerate(fitted)]
    inputs = 1 - outputs
    beside = parent.partition(".")[0] == row.query.partition(".")[0] and len(shape) == 2
    if beside and (shape[inputs], shape[outputs]) == (sizes.heads, sizes.hidden):
        return ["heads" if axis == inputs else "hidden" for axis in range(2)]
    return fitted


def _projected(path: str, row: Architecture) -> tuple[str, ...]:
    """Roles that the outputs of a module may have; none where it is no projection or its norm."""
    if row.fused and path == row.query:
        return ("qkv",)
    if path in (row.query, row.query_norm):
        return ("heads", "gated_heads")
    return ("groups",) if path in (row.key, row.value, row.key_norm) else ()


def _orders(config: Any, row: Architecture, sizes: _Sizes) -> dict[str, Order]:
    """Another order of what each role counts."""
    generator = torch.Generator().manual_seed(1)

    def other(count: int) -> Order:
        return torch.randperm(count, generator=generator)

    heads, groups = head_counts(config, row)
    width, each = sizes.heads // heads, heads // groups
    group_order = other(groups)
    head_order = torch.cat([group * each + other(each) for group in group_order])
    by_role = {
        "hidden": other(sizes.hidden),
        "heads": _blocks(head_order, width),
        "head": head_order,
        "groups": _blocks(group_order, width),
        "gated_heads": _blocks(head_order, 2 * width),
        "inner": other(sizes.inner),
    }
    by_role["gated"] = torch.cat([by_role["inner"], by_role["inner"] + sizes.inner])
    same = sizes.embedding == sizes.hidden
    by_role["embedding"] = by_role["hidden"] if same else other(sizes.embedding)
    fused = next((p for p in projections_of(row) if len(p.kinds) == 3), None)
    if fused:
        parts = split_projection(torch.arange(float(sizes.qkv)), fused, row, (heads, groups))
        joined = torch.empty(sizes.qkv, dtype=torch.long)
        for kind, places in parts.items():
            order = by_role["heads" if kind == "queries" else "groups"]
            joined[places.long()] = places[order].long()
        by_role["qkv"] = joined
    return by_role


def _blocks(order: Int[Tensor, " heads"], width: int) -> Order:
    return (order[:, None] * width + torch.arange(width)).flatten()


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() < 1e-3 * one.abs().mean())
