"""Weights of a student that no stage trains: held in half of the memory, and once for two models.

Where only low-rank layers or adapters learn, all other weights are the same from the first step to
the last. They need no gradients and no optimizer state; here they also lose half of their bytes,
and a teacher that has the same weights reads them from the student.
"""

from collections import defaultdict
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..models.stored_weights import widening_kinds

FrozenDtype = Literal["auto", "bfloat16", "float32"]


def hold_frozen(student: PreTrainedModel, dtype: FrozenDtype) -> None:
    """Hold the frozen matrices and tables of a student in 16 bits, in place.

    They are widened where they are used, so that only rounding them changes what is computed.

    Args:
        student: Its trainable parameters have ``requires_grad``, and stay as they are.
        dtype: ``auto`` converts the weights that bfloat16 or float16 holds exactly, ``bfloat16``
            rounds all of them, ``float32`` converts none.
    """
    if dtype == "float32":
        return
    for module, kind in list(widening_kinds(student)):
        weight = getattr(module, "weight", None)
        if kind is None or weight is None or weight.requires_grad:
            continue
        short = torch.bfloat16 if dtype == "bfloat16" else _exact_dtype(weight)
        if short is None:
            continue
        if weight.dtype == torch.float32:  # a tied table is met twice
            weight.data = weight.data.to(short)
        module.held_as = type(module)
        module.__class__ = kind


def widen_frozen(student: PreTrainedModel) -> None:
    """Undo `hold_frozen`, in place: every weight in float32 again, as files and merging need it.

    What was rounded stays rounded.
    """
    for module in student.modules():
        if kind := module.__dict__.pop("held_as", None):
            module.__class__ = kind
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.float()


def share_frozen(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Let a teacher read from the student the weights that both have.

    Both models have to be on the device where they compute. A weight is shared where dtype, shape
    and every number agree, whatever its name: layers of a shallower student are found too.

    Args:
        student: Its trainable parameters have ``requires_grad``; they are never shared.
        teacher: Changed in place.
    """
    frozen: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
    for parameter in student.parameters():
        if not parameter.requires_grad:
            frozen[_look(parameter)].append(parameter.data)
    for parameter in teacher.parameters():
        same = (own for own in frozen.get(_look(parameter), ()) if torch.equal(own, parameter.data))
        parameter.data = next(same, parameter.data)


def _exact_dtype(weight: Tensor) -> torch.dtype | None:
    """The 16-bit type that holds every number of a weight as it is."""
    for short in (torch.bfloat16, torch.float16):
        if torch.equal(weight.data.to(short).to(weight.dtype), weight.data):
            return short
    return None


def _look(weight: Tensor) -> tuple[Any, ...]:
    """What equal weights have in common and is quickly compared."""
    few = weight.detach().flatten()[:16].float().tolist()
    return (weight.dtype, tuple(weight.shape), *few)
