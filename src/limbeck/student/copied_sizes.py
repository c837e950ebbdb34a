"""Whether a student of some sizes can be built, and filled from its teacher, before a weight is."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..errors import Problem, first_line
from ..models.architecture import Architecture
from ..models.auto_classes import empty_model, whole_class
from ..models.quiet import quiet_transformers
from .axis_roles import axis_roles
from .merged_layers import merged_layers, runs_of_modules

_SHOWN = 2  # names of weights


def size_problem(
    config: Any,
    architecture: Architecture,
    *,
    teacher: Any = None,
    layers: Sequence[Sequence[int]] | None = None,
) -> Problem | None:
    """Why transformers cannot build a student, or its body cannot be filled; None where both can.

    Args:
        config: Of the student.
        architecture: The family's row.
        teacher: The configuration of the teacher whose layers are copied.
        layers: Those of every student layer; None where nothing is copied.
    """
    try:
        with quiet_transformers():
            student = empty_model(whole_class(architecture), config)
    except Exception as error:  # of many types, for sizes that do not fit together
        return "student", (
            f"has sizes of which transformers builds no {config.model_type}: {first_line(error)};"
            " give sizes that the teacher or the family has"
        )
    if teacher is None or layers is None:
        return None
    with quiet_transformers():
        wide = empty_model(whole_class(architecture), teacher)
    source = merged_layers(wide, architecture, runs_of_modules(student, wide, architecture, layers))
    targets = dict(student.base_model.named_parameters())
    unknown = [
        name
        for name, target in targets.items()
        if name in source
        and source[name].shape != target.shape
        and axis_roles(name, architecture) is None
        and not name.startswith("pooler.")  # known by its sizes
    ]
    lost = lost_projections(source, targets, architecture)
    if not lost and not unknown:
        return None
    named = ", ".join(unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
    return "student.init_from_teacher", lost or (
        f"copies layers of {teacher.model_type} at the teacher's sizes alone: the axes of {named}"
        " are not in its architecture (`limbeck inspect` shows why); leave sizes such as"
        " hidden_size out, or start from random weights (`init_from_teacher: null`)"
    )


def lost_projections(
    source: Mapping[str, Tensor], targets: Mapping[str, Tensor], architecture: Architecture
) -> str | None:
    """Why a student lacks a map between its embeddings and its hidden states; None otherwise.

    The teacher has one, and the student's two widths happen to be equal.
    """
    between = {"embedding", "hidden"}
    lost = [
        name
        for name in source.keys() - targets.keys()
        if set(axis_roles(name, architecture) or ()) == between
    ]
    if not lost:
        return None
    return (
        f"the student's hidden states are as wide as its embeddings, so it has no"
        f" {', '.join(sorted(lost))}, which the teacher has; give another hidden_size"
    )
