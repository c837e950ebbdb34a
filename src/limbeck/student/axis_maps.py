"""The axes of a teacher's weights, each mapped to the student's narrower one.

Source: the rotation of the residual stream follows the idea of SliceGPT, Ashkboos et al. 2024,
arXiv:2401.15024.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ..activations import Needs
from ..batch import Tokens
from ..errors import StudentError
from ..models.architecture import Architecture
from ..models.capture import capture
from ..models.shapes import Shape
from .width import Width

Matrix = Float[Tensor, "wide narrow"]


@dataclass(frozen=True)
class AxisMaps:
    """A matrix (teacher size, student size) for every role that an axis can play."""

    by_role: dict[str, Matrix]
    norm_scale: float  # factor of a norm's gain, so that the kept directions keep their size


def axis_maps(
    source: Mapping[str, Tensor],
    architecture: Architecture,
    layer: int | None,
    residual: tuple[Matrix, float],
    narrow: Shape,
    wide: Shape,
    width: Width,
) -> AxisMaps:
    """The maps of one layer's weights, or of the weights outside all layers.

    Args:
        source: The teacher's weights by name.
        architecture: The family's row.
        layer: The layer's number in ``source``; None for weights outside all layers.
        residual: As `hidden_map` returns it.
        narrow: Sizes of the student.
        wide: Sizes of the teacher.
        width: How heads and feed-forward neurons are chosen.
    """
    hidden, scale = residual
    by_role = {"hidden": hidden}
    if (
        wide.hidden_size != narrow.hidden_size
        and _embedding_width(source, architecture) == wide.hidden_size
    ):
        by_role["embedding"] = hidden
    if layer is not None:
        prefix = f"{architecture.layers}.{layer}."
        weights = _outputs_first(source, architecture, prefix)
        by_role["heads"], by_role["groups"] = _head_maps(weights, narrow, wide, width)
        by_role["inner"] = inner = _inner_map(weights, narrow, wide, width)
        heads = by_role["heads"]
        by_role["qkv"] = torch.block_diag(heads, heads, heads)  # type: ignore[no-untyped-call]
        by_role["gated"] = torch.block_diag(inner, inner)  # type: ignore[no-untyped-call]
    return AxisMaps(by_role, scale)


def _embedding_width(source: Mapping[str, Tensor], architecture: Architecture) -> int:
    for name, weight in source.items():
        if axis_roles(name, architecture) == ("same", "embedding"):
            return weight.shape[1]
    return 0


def _selection(chosen: Tensor, wide: int) -> Matrix:
    matrix = torch.zeros(wide, len(chosen))
    matrix[chosen, torch.arange(len(chosen))] = 1.0
    return matrix


def _outputs_first(
    source: Mapping[str, Tensor], architecture: Architecture, prefix: str
) -> dict[tuple[str, ...] | None, Tensor]:
    """The matrices of a layer by the roles of their axes, with outputs first in every family."""
    found = {}
    for name, weight in source.items():
        if name.startswith(prefix) and weight.dim() == 2:
            roles, matrix = axis_roles(name, architecture), weight.detach().float()
            if roles is not None and architecture.inputs_first:
                roles, matrix = roles[::-1], matrix.mT
            found[roles] = matrix
    return found


def _head_maps(
    weights: dict[tuple[str, ...] | None, Tensor], narrow: Shape, wide: Shape, width: Width
) -> tuple[Tensor, Tensor]:  # two matrices of different sizes
    """Which query heads are kept, and which heads of keys and values, group by group."""
    groups_narrow = narrow.num_key_value_heads or narrow.num_attention_heads
    groups_wide = wide.num_key_value_heads or wide.num_attention_heads
    per_narrow, per_wide = (
        narrow.num_attention_heads // groups_narrow,
        wide.num_attention_heads // groups_wide,
    )
    sizes = (
        narrow.query_width // narrow.num_attention_heads,
        wide.query_width // wide.num_attention_heads,
    )
    norms = torch.zeros(groups_wide, per_wide)
    output = weights.get(("hidden", "heads"))
    if width is Width.SVD and output is not None:
        norms = output.square().sum(0).reshape(groups_wide, per_wide, sizes[1]).sum(2)
    groups = _largest(norms.sum(1), groups_narrow)
    heads = torch.cat([group * per_wide + _largest(norms[group], per_narrow) for group in groups])
    return (
        _selected_heads(heads, sizes, wide.num_attention_heads),
        _selected_heads(groups, sizes, groups_wide),
    )


def _largest(values: Tensor, count: int) -> Tensor:
    """Indices of the largest values, ascending; the first indices where all values are equal."""
    return values.argsort(descending=True, stable=True)[:count].sort().values


def _selected_heads(heads: Tensor, sizes: tuple[int, int], of: int) -> Matrix:
    chosen = (heads[:, None] * sizes[1] + torch.arange(sizes[0])).flatten()
    return _selection(chosen, of * sizes[1])


def _inner_map(
    weights: dict[tuple[str, ...] | None, Tensor], narrow: Shape, wide: Shape, width: Width
) -> Matrix:
    chosen = torch.arange(narrow.intermediate_size)
    up, down = weights.get(("inner", "hidden")), weights.get(("hidden", "inner"))
    if width is Width.SVD and down is not None:
        norms = down.square().sum(0)
        if up is not None:
            norms = norms * up.square().sum(1)
        chosen = norms.topk(narrow.intermediate_size).indices.sort().values
    return _selection(chosen, wide.intermediate_size)


def hidden_map(
    teacher: PreTrainedModel,
    architecture: Architecture,
    narrow: Shape,
    wide: Shape,
    width: Width,
    calibration: Sequence[Tokens],
) -> tuple[Matrix, float]:
    """The map of the residual stream, and the factor of the gain of norms that belongs to it.

    Raises:
        StudentError: The width is ``svd``, and there is no calibration text.
    """
    if width is Width.CUT or narrow.hidden_size == wide.hidden_size:
        return _selection(torch.arange(narrow.hidden_size), wide.hidden_size), 1.0
    if not calibration:
        raise StudentError("copying by svd needs calibration text; give some, or use `width: cut`")
    second_moment = torch.zeros(wide.hidden_size, wide.hidden_size, dtype=torch.float64)
    everything = Needs(hidden=frozenset(range(wide.num_hidden_layers)))
    with torch.no_grad():
        for tokens in calibration:
            states = capture(teacher, architecture, tokens, everything).hidden
            for state in states.values():
                rows = state[tokens.mask].double()
                # Every layer has the same weight, however large its states are.
                second_moment += rows.mT @ rows / rows.square().sum()
    # A norm subtracts the mean over coordinates, so that direction is mapped to itself, and
    # the rest of the basis is orthogonal to it.
    ones = torch.full((wide.hidden_size, 1), wide.hidden_size**-0.5, dtype=torch.float64)
    project = torch.eye(wide.hidden_size, dtype=torch.float64) - ones @ ones.mT
    values, vectors = torch.linalg.eigh(project @ second_moment @ project)
    kept = vectors[:, -(narrow.hidden_size - 1) :]
    energy = float(values[-(narrow.hidden_size - 1) :].sum() / values.sum())
    ones_narrow = torch.full((narrow.hidden_size, 1), narrow.hidden_size**-0.5, dtype=torch.float64)
    basis = torch.linalg.svd(ones_narrow, full_matrices=True).U[:, 1:]
    matrix = kept @ basis.mT + ones @ ones_narrow.mT
    return matrix.float(), (energy * wide.hidden_size / narrow.hidden_size) ** 0.5


def axis_roles(name: str, architecture: Architecture) -> tuple[str, ...] | None:
    """The roles of the axes of a weight or bias; None where the architecture does not say."""
    stem, _, kind = name.rpartition(".")
    for ending, roles in architecture.axes:
        if name.endswith(ending):
            return roles
        if kind == "bias" and f"{stem}.weight".endswith(ending):
            return roles[-1:] if architecture.inputs_first else roles[:1]
    return None
