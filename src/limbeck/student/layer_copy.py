"""Initialization of a student from layers of its teacher, made narrower where it is narrower.

A student layer is a copy of a teacher layer, or the mean of several.

``cut`` keeps the first coordinates. ``svd`` keeps the main directions of the
teacher's hidden states: one orthonormal basis of the residual stream, from hidden
states on calibration text, rotates every matrix that reads from the stream or adds
to it; heads and feed-forward neurons are chosen by the norm of what they add.

Source: layer copy as in Sanh et al. 2019, arXiv:1910.01108; means of layers as in
Kolesnikova et al. 2022, arXiv:2205.02340; the rotation follows
the idea of SliceGPT, Ashkboos et al. 2024, arXiv:2401.15024, with the norms' gains
approximated because in a post-norm model they cannot be folded away.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..batch import Tokens
from ..errors import StudentError
from ..models.architecture import Architecture
from ..models.shapes import Shape, shape_of
from .axis_maps import AxisMaps, axis_maps, axis_roles, hidden_map
from .width import Width


def copy_problems(
    student: Shape, teacher: Shape, layers: Sequence[Sequence[int]], *, rotary: bool = False
) -> list[str]:
    """Every problem of a copy of the teacher's layers into a student of this shape.

    Args:
        student: Sizes of the student.
        teacher: Sizes of the teacher.
        layers: Teacher layers of every student layer.
        rotary: Whether positions are rotary. They turn each coordinate of a head at its own
            speed, so that a head cannot become narrower.
    """
    problems = _layer_problems(student, teacher, layers)
    for name, (narrow, wide) in _filled_sizes(student, teacher).items():
        if narrow > wide:
            problems.append(
                f"cannot fill {name}={narrow} from the teacher's {wide}; make it smaller, or start"
                " from random weights (`init_from_teacher: null`)"
            )
    narrow, wide = _head_size(student), _head_size(teacher)
    if rotary and narrow < wide:
        problems.append(
            f"cannot make heads of {wide} coordinates as narrow as {narrow} where positions are"
            f" rotary; give hidden_size / num_attention_heads = {wide}, or start from random"
            " weights (`init_from_teacher: null`)"
        )
    return problems


def _layer_problems(student: Shape, teacher: Shape, layers: Sequence[Sequence[int]]) -> list[str]:
    """The problems of the layers that are named, whatever their sizes."""
    problems = []
    if len(layers) != student.num_hidden_layers:
        problems.append(
            f"names {len(layers)} teacher layers for {student.num_hidden_layers} student layers;"
            " name one each"
        )
    if empty := [number for number, run in enumerate(layers) if not run]:
        problems.append(
            f"names no teacher layer for student layers {empty}; name one each, or more"
        )
    named = [layer for run in layers for layer in run]
    if outside := [layer for layer in named if not 0 <= layer < teacher.num_hidden_layers]:
        problems.append(
            f"names teacher layers {outside}, but there are {teacher.num_hidden_layers}: 0 to"
            f" {teacher.num_hidden_layers - 1} (the embedding output is not counted)"
        )
    return problems


def _filled_sizes(student: Shape, teacher: Shape) -> dict[str, tuple[int, int]]:
    """Every size of the student that is filled from the teacher's, with the teacher's size."""
    fields = (
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "max_position_embeddings",
    )
    sizes = {name: (getattr(student, name), getattr(teacher, name)) for name in fields}
    groups = [
        shape.num_key_value_heads or shape.num_attention_heads for shape in (student, teacher)
    ]
    return {
        **sizes,
        "hidden per head": (_head_size(student), _head_size(teacher)),
        "num_key_value_heads": (groups[0], groups[1]),
        "heads per key_value_head": (
            student.num_attention_heads // groups[0],
            teacher.num_attention_heads // groups[1],
        ),
    }


def _head_size(shape: Shape) -> int:
    return shape.query_width // shape.num_attention_heads


def copy_layers(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    architecture: Architecture,
    *,
    layers: Sequence[Sequence[int]],
    width: Width,
    calibration: Sequence[Tokens],
) -> None:
    """Overwrite the student's weights with the weights of the teacher's layers.

    Embeddings are copied too, and the vocabulary head where both have one.

    Args:
        student: Changed in place; of the teacher's family.
        teacher: Only read.
        architecture: The family's row, with the roles of its weights' axes.
        layers: Teacher layers of every student layer, which becomes their mean.
        width: How narrower axes are filled.
        calibration: Text for ``svd``, in the teacher's tokens; a few thousand tokens
            are enough.

    Raises:
        StudentError: A weight's axes are not in the architecture, or sizes do not fit.
    """
    narrow, wide = shape_of(student.config, architecture), shape_of(teacher.config, architecture)
    if problems := copy_problems(narrow, wide, layers, rotary=architecture.rotary):
        raise StudentError("layer copy " + "; ".join(problems))
    residual = hidden_map(teacher, architecture, narrow, wide, width, calibration)
    source = _merged(teacher, architecture, layers)
    maps = {
        layer: axis_maps(source, architecture, layer, residual, narrow, wide, width)
        for layer in (None, *range(len(layers)))
    }
    for name, target in student.base_model.named_parameters():
        if name in source:  # not a pooler, or a norm that only some layers have
            layer, _ = _layer_of(name, architecture)
            _assign(target, source[name], name, architecture, maps[layer])
    body = teacher.base_model_prefix + "."
    # Tied weights are listed under all of their names, because the student's may not be tied.
    named = teacher.named_parameters(remove_duplicate=False)
    in_head = {name: weight for name, weight in named if not name.startswith(body)}
    for name, target in student.named_parameters():
        if name in in_head and student is not student.base_model:
            _assign(target, in_head[name], name, architecture, maps[None])


def _merged(
    teacher: PreTrainedModel, architecture: Architecture, layers: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """The weights of the teacher's body, with each run of layers replaced by its mean."""
    merged: dict[str, Tensor] = {}
    of_layers: dict[str, dict[int, Tensor]] = {}
    for name, weight in teacher.base_model.named_parameters():
        layer, rest = _layer_of(name, architecture)
        if layer is None:
            merged[name] = weight
        else:
            of_layers.setdefault(rest, {})[layer] = weight
    for number, run in enumerate(layers):
        for rest, weights in of_layers.items():
            found = [weights[layer] for layer in run if layer in weights]
            if found:
                mean = found[0]
                if len(found) > 1:
                    mean = torch.stack([weight.detach().float() for weight in found]).mean(0)
                merged[f"{architecture.layers}.{number}.{rest}"] = mean
    return merged


def _layer_of(name: str, architecture: Architecture) -> tuple[int | None, str]:
    """The number of the layer that a weight of the body belongs to, and its name there."""
    prefix = architecture.layers + "."
    if not name.startswith(prefix):
        return None, name
    number, rest = name[len(prefix) :].split(".", 1)
    return int(number), rest


def _assign(
    target: Tensor, source: Tensor, name: str, architecture: Architecture, maps: AxisMaps
) -> None:
    kind = name.rsplit(".", 1)[-1]
    roles = axis_roles(name, architecture)
    if roles is None:
        if target.shape != source.shape:
            raise StudentError(
                f"the axes of {name} (teacher {tuple(source.shape)}, student"
                f" {tuple(target.shape)}) are not in the architecture; add them, or use"
                " `init_from_teacher: null`"
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
    rows = min(len(target), len(value))  # tables may be padded to different numbers of rows
    target.data[:rows] = value[:rows]
