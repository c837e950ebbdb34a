"""Initialization of a student from layers of its teacher, made narrower where it is narrower.

A student layer is a copy of a teacher layer, or the mean of several.

``cut`` keeps the first coordinates. ``svd`` keeps the main directions of the
teacher's hidden states: one orthonormal basis of the residual stream, from hidden
states on calibration text, rotates every matrix that reads from the stream or adds
to it; heads and feed-forward neurons are chosen by the norm of what they add.
``importance`` keeps the coordinates, heads and neurons that are most active on calibration text.

Source: layer copy as in Sanh et al. 2019, arXiv:1910.01108; means of layers as in
Kolesnikova et al. 2022, arXiv:2205.02340; the rotation follows
the idea of SliceGPT, Ashkboos et al. 2024, arXiv:2401.15024, with the norms' gains
approximated because in a post-norm model they cannot be folded away.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..batch import Tokens
from ..errors import StudentError
from ..models.architecture import Architecture
from ..models.shapes import Shape, shape_of
from ..models.task_heads import is_task_class
from .axis_maps import AllMaps, AxisMaps
from .axis_roles import axis_roles, layer_of
from .copied_sizes import lost_projections
from .merged_layers import merged_layers, runs_of_modules
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
    calibration: Sequence[Tokens] = (),
) -> None:
    """Overwrite the student's weights with the weights of the teacher's layers.

    Embeddings are copied too, and the head where both have one of the same kind.

    Args:
        student: Changed in place; of the teacher's family.
        teacher: Only read.
        architecture: The family's row, with the roles of its weights' axes.
        layers: Teacher layers of every student layer, which becomes their mean.
        width: How narrower axes are filled.
        calibration: Text for ``svd`` and ``importance``, in the teacher's tokens; a few thousand
            tokens are enough.

    Raises:
        StudentError: A weight's axes are not in the architecture, or sizes do not fit.

    Warns:
        UserWarning: A weight of the student has no counterpart and stays random.
    """
    narrow, wide = shape_of(student.config, architecture), shape_of(teacher.config, architecture)
    if problems := copy_problems(narrow, wide, layers, rotary=architecture.rotary):
        raise StudentError("layer copy " + "; ".join(problems))
    runs = runs_of_modules(student, teacher, architecture, layers)
    source = merged_layers(teacher, architecture, runs)
    maps = AllMaps(teacher, source, architecture, runs, (narrow, wide), width, calibration)
    _copy_body(student, teacher, architecture, source, maps)
    if student is not student.base_model:
        _copy_head(student, teacher, architecture, maps.of(None))


def _copy_body(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    architecture: Architecture,
    source: dict[str, Tensor],
    maps: AllMaps,
) -> None:
    targets = dict(student.base_model.named_parameters())
    if lost := lost_projections(source, targets, architecture):
        raise StudentError(lost)
    by_layer: dict[int | None, AxisMaps] = {}
    random = []
    for name, target in targets.items():
        layer, _ = layer_of(name, architecture)
        if layer not in by_layer:
            by_layer = {layer: maps.of(layer)}  # those of one layer at a time
        if name in source:
            # A pooler is a part of a classifier's head: its axes too are known by their sizes.
            wide = teacher.config.hidden_size if name.startswith("pooler.") else None
            _assign(target, source[name], name, architecture, by_layer[layer], wide=wide)
        elif target.dim() > 1 and not name.startswith("pooler."):
            # Norms and biases that only some layers have begin as if they were not there.
            random.append(name)
    _warn_of_random(random)
    if student.config.hidden_size != teacher.config.hidden_size:
        embeddings: Any = student.get_input_embeddings()
        embeddings.weight.data.mul_(_embedding_scale(teacher) / _embedding_scale(student))


def _copy_head(
    student: PreTrainedModel, teacher: PreTrainedModel, architecture: Architecture, maps: AxisMaps
) -> None:
    body = teacher.base_model_prefix + "."
    # Tied weights are listed under all of their names, because the student's may not be tied.
    named = teacher.named_parameters(remove_duplicate=False)
    source = {name: weight for name, weight in named if not name.startswith(body)}
    in_body = {id(parameter) for parameter in student.base_model.parameters()}
    # The heads of classifiers are not in the architecture: their axes are known by their sizes.
    wide = teacher.config.hidden_size if is_task_class(type(teacher)) else None
    random = []
    for name, target in student.named_parameters():
        if id(target) in in_body:
            continue
        if name in source:
            _assign(target, source[name], name, architecture, maps, wide=wide)
        elif target.dim() > 1 and teacher is not teacher.base_model:
            random.append(name)
    _warn_of_random(random)


def _warn_of_random(names: Sequence[str]) -> None:
    if names:
        warnings.warn(
            f"the teacher has no weights for {', '.join(names)}: the student's stay random",
            stacklevel=4,
        )


def _embedding_scale(model: PreTrainedModel) -> float:
    """What a model multiplies the rows of its embedding table by.

    Gemma's factor is the root of the hidden size, so that a narrower copy would add smaller
    embeddings to what its layers return: its table is made larger by as much. The logits of a head
    that is tied to the table grow with it.
    """
    table: Any = model.get_input_embeddings()
    rows = table.weight.detach()[:64].float()  # some of which may be zero, as that of padding
    largest = int(rows.norm(dim=1).argmax())
    row = rows[largest]
    with torch.no_grad():
        given = table(torch.tensor([largest], device=row.device))[0].float()
    square = float(row @ row)
    return float(given @ row) / square if square else 1.0


def _assign(
    target: Tensor,
    source: Tensor,
    name: str,
    architecture: Architecture,
    maps: AxisMaps,
    *,
    wide: int | None = None,
) -> None:
    """Fill a weight of the student.

    Args:
        target: The student's.
        source: The teacher's.
        name: Of both.
        architecture: With the roles of axes.
        maps: From the teacher's axes to the student's.
        wide: The width of the hidden states, by which the axes of a weight are known that is not in
            the architecture; None where such a weight must fit as it is.

    Raises:
        StudentError: Its axes are not in the architecture, or do not fit after their maps.
    """
    kind = name.rsplit(".", 1)[-1]
    known = axis_roles(name, architecture)
    if known is None and wide is not None:
        known = tuple("hidden" if size == wide else "same" for size in source.shape)
    roles = known or ("same",) * source.dim()
    value = source.detach().float().cpu()
    if kind == "bias":
        value = maps.bias(value, roles[0])
    elif value.dim() == 1:
        value = maps.gain(value, roles[0])
    else:
        value = maps.weight(value, roles)
    for axis, role in enumerate(roles):
        if role == "positions":
            value = value.narrow(axis, 0, target.shape[axis])
    fits = value.shape == target.shape
    if not fits and known and roles[0] == "same":
        # Tables of tokens may be padded to different numbers of rows.
        fits = value.shape[1:] == target.shape[1:]
    if not fits:
        raise StudentError(
            f"the axes of {name} (teacher {tuple(source.shape)}, student {tuple(target.shape)})"
            " are not in the architecture; add them, or use `init_from_teacher: null`"
        )
    rows = min(len(target), len(value))
    target.data[:rows] = value[:rows]
