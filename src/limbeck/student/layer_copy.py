"""A student starts from chosen layers of its teacher, made narrower where it is narrower.

``cut`` keeps the first coordinates. ``svd`` keeps the directions in which the
teacher's hidden states really lie: one orthonormal basis of the residual stream,
from hidden states on calibration text, turns every matrix that reads from it or
writes to it; heads and feed-forward neurons are chosen by the norm of what they
write.

Source: layer copy as in Sanh et al. 2019, arXiv:1910.01108; the rotation follows
the idea of SliceGPT, Ashkboos et al. 2024, arXiv:2401.15024, with the norms' gains
approximated because in a post-norm model they cannot be folded away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ..activations import Needs, capture
from ..architectures import Anatomy, Shape, shape_of
from ..batch import Tokens
from ..errors import StudentError

Matrix = Float[Tensor, "wide narrow"]


class Width(str, Enum):
    """How a narrower student takes over wider weights."""

    CUT = "cut"  # the first coordinates of every axis
    SVD = "svd"  # the main directions of the teacher's hidden states


@dataclass(frozen=True)
class _Maps:
    """A matrix (teacher size, student size) for every role that an axis can play."""

    by_role: dict[str, Matrix]
    norm_scale: float  # what a norm's gain grows by, so that the kept directions keep their size


def copy_faults(
    student: Shape, teacher: Shape, layers: Sequence[int], *, rotary: bool = False
) -> list[str]:
    """Everything that makes a copy into this student impossible.

    Args:
        student: Its sizes.
        teacher: Likewise.
        layers: Teacher layer of every student layer.
        rotary: Positions turn queries and keys, each coordinate of a head at a
            speed of its own, so that a head cannot be cut.
    """
    faults = []
    if len(layers) != student.layers:
        faults.append(
            f"names {len(layers)} teacher layers for {student.layers} student layers; name one each"
        )
    if outside := [layer for layer in layers if not 0 <= layer < teacher.layers]:
        faults.append(
            f"names teacher layers {outside}, but there are {teacher.layers}: 0 to"
            f" {teacher.layers - 1} (the embedding output is not counted)"
        )
    head_size = student.query_width // student.heads, teacher.query_width // teacher.heads
    groups = student.key_value_heads or student.heads, teacher.key_value_heads or teacher.heads
    sizes = {
        "hidden": (student.hidden, teacher.hidden),
        "intermediate": (student.intermediate, teacher.intermediate),
        "heads": (student.heads, teacher.heads),
        "positions": (student.positions, teacher.positions),
        "hidden per head": head_size,
        "key_value_heads": groups,
        "heads per key_value_head": (student.heads // groups[0], teacher.heads // groups[1]),
    }
    for name, (narrow, wide) in sizes.items():
        if narrow > wide:
            faults.append(
                f"cannot fill {name}={narrow} from the teacher's {wide}; make it smaller, or start"
                " from random weights (`copy: null`)"
            )
    if rotary and head_size[0] < head_size[1]:
        faults.append(
            f"cannot cut heads of {head_size[1]} to {head_size[0]} where positions are rotary;"
            f" give hidden / heads = {head_size[1]}, or start from random weights (`copy: null`)"
        )
    return faults


def copy_layers(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    anatomy: Anatomy,
    *,
    layers: Sequence[int],
    width: Width,
    calibration: Sequence[Tokens],
) -> None:
    """Overwrite the student's weights with those of the teacher's layers.

    Embeddings are copied too, and the vocabulary head where both have one.

    Args:
        student: Changed in place; of the teacher's family.
        teacher: Only read.
        anatomy: The family's row, with the roles of its weights' axes.
        layers: Teacher layer of every student layer.
        width: How narrower axes are filled.
        calibration: Text for ``svd``, as the teacher reads it; a few thousand
            tokens are enough.

    Raises:
        StudentError: A weight's axes are not in the anatomy, or sizes do not fit.
    """
    narrow, wide = shape_of(student.config, anatomy), shape_of(teacher.config, anatomy)
    if faults := copy_faults(narrow, wide, layers, rotary=anatomy.rotary):
        raise StudentError("layer copy " + "; ".join(faults))
    hidden, scale = _hidden_map(teacher, anatomy, narrow, wide, width, calibration)
    source = dict(teacher.base_model.named_parameters())
    for name, target in student.base_model.named_parameters():
        layer, name_in_teacher = _renumbered(name, anatomy, layers)
        if name_in_teacher not in source:
            continue  # a pooler, or a norm that only one of the two layers has
        maps = _maps(source, anatomy, layer, hidden, scale, narrow, wide, width)
        _assign(target, source[name_in_teacher], name, anatomy, maps)
    maps = _maps(source, anatomy, None, hidden, scale, narrow, wide, width)
    body = teacher.base_model_prefix + "."
    in_head = {n: p for n, p in teacher.named_parameters() if not n.startswith(body)}
    for name, target in student.named_parameters():
        if name in in_head and student is not student.base_model:
            _assign(target, in_head[name], name, anatomy, maps)


def _renumbered(name: str, anatomy: Anatomy, layers: Sequence[int]) -> tuple[int | None, str]:
    prefix = anatomy.layers + "."
    if not name.startswith(prefix):
        return None, name
    number, rest = name[len(prefix) :].split(".", 1)
    layer = layers[int(number)]
    return layer, f"{prefix}{layer}.{rest}"


def _assign(target: Tensor, source: Tensor, name: str, anatomy: Anatomy, maps: _Maps) -> None:
    kind = name.rsplit(".", 1)[-1]
    roles = _roles(name, anatomy)
    if roles is None:
        if target.shape != source.shape:
            raise StudentError(
                f"the axes of {name} (teacher {tuple(source.shape)}, student"
                f" {tuple(target.shape)}) are not in the anatomy; add them, or use `copy: null`"
            )
        target.data.copy_(source)
        return
    value = source.detach().float()
    if kind == "bias" or value.dim() == 1:
        role = roles[0]
        if role in maps.by_role:
            matrix = maps.by_role[role]
            is_gain = kind == "weight"
            value = (matrix.square() if is_gain else matrix).mT @ value
            if is_gain:
                value = value * maps.norm_scale
    else:
        for axis, role in enumerate(roles):
            if role == "positions":
                value = value.narrow(axis, 0, target.shape[axis])
            if role in maps.by_role:
                value = torch.tensordot(value, maps.by_role[role], dims=([axis], [0]))
                value = value.movedim(-1, axis)
    rows = min(len(target), len(value))  # tables may be filled up to different numbers of rows
    target.data[:rows] = value[:rows]


def _roles(name: str, anatomy: Anatomy) -> tuple[str, ...] | None:
    stem, _, kind = name.rpartition(".")
    for ending, roles in anatomy.axes:
        if name.endswith(ending):
            return roles
        if kind == "bias" and f"{stem}.weight".endswith(ending):
            return roles[-1:] if anatomy.inputs_first else roles[:1]
    return None


def _maps(
    source: Mapping[str, Tensor],
    anatomy: Anatomy,
    layer: int | None,
    hidden: Matrix,
    scale: float,
    narrow: Shape,
    wide: Shape,
    width: Width,
) -> _Maps:
    by_role = {"hidden": hidden}
    if wide.hidden != narrow.hidden and _embedding_width(source, anatomy) == wide.hidden:
        by_role["embedding"] = hidden
    if layer is not None:
        prefix = f"{anatomy.layers}.{layer}."
        weights = _outputs_first(source, anatomy, prefix)
        by_role["heads"], by_role["groups"] = _head_maps(weights, narrow, wide, width)
        by_role["inner"] = inner = _inner_map(weights, narrow, wide, width)
        heads = by_role["heads"]
        by_role["qkv"] = torch.block_diag(heads, heads, heads)  # type: ignore[no-untyped-call]
        by_role["gated"] = torch.block_diag(inner, inner)  # type: ignore[no-untyped-call]
    return _Maps(by_role, scale)


def _embedding_width(source: Mapping[str, Tensor], anatomy: Anatomy) -> int:
    for name, weight in source.items():
        if _roles(name, anatomy) == ("same", "embedding"):
            return weight.shape[1]
    return 0


def _selection(chosen: Tensor, wide: int) -> Matrix:
    matrix = torch.zeros(wide, len(chosen))
    matrix[chosen, torch.arange(len(chosen))] = 1.0
    return matrix


def _outputs_first(
    source: Mapping[str, Tensor], anatomy: Anatomy, prefix: str
) -> dict[tuple[str, ...] | None, Tensor]:
    """The matrices of a layer by the roles of their axes, outputs first in every family."""
    found = {}
    for name, weight in source.items():
        if name.startswith(prefix) and weight.dim() == 2:
            roles, matrix = _roles(name, anatomy), weight.detach().float()
            if roles is not None and anatomy.inputs_first:
                roles, matrix = roles[::-1], matrix.mT
            found[roles] = matrix
    return found


def _head_maps(
    weights: dict[tuple[str, ...] | None, Tensor], narrow: Shape, wide: Shape, width: Width
) -> tuple[Tensor, Tensor]:  # two matrices of different sizes
    """Which query heads are kept, and which heads of keys and values, group by group."""
    groups_narrow = narrow.key_value_heads or narrow.heads
    groups_wide = wide.key_value_heads or wide.heads
    per_narrow, per_wide = narrow.heads // groups_narrow, wide.heads // groups_wide
    sizes = narrow.query_width // narrow.heads, wide.query_width // wide.heads
    norms = torch.zeros(groups_wide, per_wide)
    writes = weights.get(("hidden", "heads"))
    if width is Width.SVD and writes is not None:
        norms = writes.square().sum(0).reshape(groups_wide, per_wide, sizes[1]).sum(2)
    groups = _largest(norms.sum(1), groups_narrow)
    heads = torch.cat([group * per_wide + _largest(norms[group], per_narrow) for group in groups])
    return (
        _selected_heads(heads, sizes, wide.heads),
        _selected_heads(groups, sizes, groups_wide),
    )


def _largest(values: Tensor, count: int) -> Tensor:
    """Places of the largest values, in order of place; the first ones where all are equal."""
    return values.argsort(descending=True, stable=True)[:count].sort().values


def _selected_heads(heads: Tensor, sizes: tuple[int, int], of: int) -> Matrix:
    chosen = (heads[:, None] * sizes[1] + torch.arange(sizes[0])).flatten()
    return _selection(chosen, of * sizes[1])


def _inner_map(
    weights: dict[tuple[str, ...] | None, Tensor], narrow: Shape, wide: Shape, width: Width
) -> Matrix:
    chosen = torch.arange(narrow.intermediate)
    reads, writes = weights.get(("inner", "hidden")), weights.get(("hidden", "inner"))
    if width is Width.SVD and writes is not None:
        norms = writes.square().sum(0)
        if reads is not None:
            norms = norms * reads.square().sum(1)
        chosen = norms.topk(narrow.intermediate).indices.sort().values
    return _selection(chosen, wide.intermediate)


def _hidden_map(
    teacher: PreTrainedModel,
    anatomy: Anatomy,
    narrow: Shape,
    wide: Shape,
    width: Width,
    calibration: Sequence[Tokens],
) -> tuple[Matrix, float]:
    if width is Width.CUT or narrow.hidden == wide.hidden:
        return _selection(torch.arange(narrow.hidden), wide.hidden), 1.0
    if not calibration:
        raise StudentError("copying by svd needs calibration text; give some, or use `width: cut`")
    second_moment = torch.zeros(wide.hidden, wide.hidden, dtype=torch.float64)
    everything = Needs(hidden=frozenset(range(wide.layers)))
    with torch.no_grad():
        for tokens in calibration:
            states = capture(teacher, anatomy, tokens, everything).hidden
            for state in states.values():
                rows = state[tokens.mask].double()
                # Each layer counts alike, however large its states are.
                second_moment += rows.mT @ rows / rows.square().sum()
    # The mean over coordinates is what a norm subtracts, so that direction is mapped to
    # itself and the rest of the basis stands at a right angle to it.
    ones = torch.full((wide.hidden, 1), wide.hidden**-0.5, dtype=torch.float64)
    project = torch.eye(wide.hidden, dtype=torch.float64) - ones @ ones.mT
    values, vectors = torch.linalg.eigh(project @ second_moment @ project)
    kept = vectors[:, -(narrow.hidden - 1) :]
    energy = float(values[-(narrow.hidden - 1) :].sum() / values.sum())
    ones_narrow = torch.full((narrow.hidden, 1), narrow.hidden**-0.5, dtype=torch.float64)
    basis = torch.linalg.svd(ones_narrow, full_matrices=True).U[:, 1:]
    matrix = kept @ basis.mT + ones @ ones_narrow.mT
    return matrix.float(), (energy * wide.hidden / narrow.hidden) ** 0.5
