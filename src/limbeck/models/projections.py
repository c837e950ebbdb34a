"""Which modules of a layer return queries, keys and values, and in which parts of their output."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .architecture import Architecture

_KINDS = ("queries", "keys", "values")


@dataclass(frozen=True)
class Projection:
    """A module of a layer that returns queries, keys or values.

    Attributes:
        path: Its path within the layer.
        kinds: What it returns, in order.
        wanted: Those of ``kinds`` that are taken from it.
        linear: Whether it maps the layer's input to them, and not the output of a projection.
    """

    path: str
    kinds: tuple[str, ...]
    wanted: tuple[str, ...]
    linear: bool = True


def projections_of(architecture: Architecture) -> list[Projection]:
    """The modules of a layer that return its queries, keys and values."""
    norms = {
        kind: path
        for kind, path in (("queries", architecture.query_norm), ("keys", architecture.key_norm))
        if path
    }
    found = [Projection(path, (kind,), (kind,), linear=False) for kind, path in norms.items()]
    if architecture.fused:
        left = tuple(kind for kind in _KINDS if kind not in norms)
        return [*found, Projection(architecture.query, _KINDS, left)]
    paths = (architecture.query, architecture.key, architecture.value)
    return found + [
        Projection(path, (kind,), (kind,))
        for kind, path in zip(_KINDS, paths, strict=True)
        if kind not in norms
    ]


def split_projection(
    joined: Float[Tensor, "*places width"],
    projection: Projection,
    architecture: Architecture,
    heads: tuple[int, int],
) -> dict[str, Tensor]:
    """What a module returns, by kind, attention heads joined.

    Args:
        joined: Its output; or its weight, with the outputs last.
        projection: The module.
        architecture: The family's row.
        heads: Numbers of the query heads, and of the heads of keys and values.
    """
    if len(projection.kinds) == 1:
        return {projection.kinds[0]: joined}
    queries, groups = heads
    size = joined.shape[-1] // (queries + 2 * groups)
    if not architecture.grouped:
        parts = torch.split(joined, [queries * size, groups * size, groups * size], dim=-1)
    else:
        rows = joined.reshape(*joined.shape[:-1], groups, -1, size)
        parts = (rows[..., :-2, :], rows[..., -2, :], rows[..., -1, :])
        parts = (parts[0].flatten(-3), parts[1].flatten(-2), parts[2].flatten(-2))
    return dict(zip(_KINDS, parts, strict=True))
