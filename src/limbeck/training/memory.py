"""The memory of a training by what it holds: weights, gradients, states of the optimizer."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..teacher.contract import Teacher

# What an average takes of its bytes in float32.
_OF_FLOAT32 = {"adamw_torch": 1.0, "adamw_torch_8bit": 0.25, "adamw_torch_4bit": 0.125}


def held_by_parts(
    learner: nn.Module,
    teacher: Teacher | None,
    optimizer: torch.optim.Optimizer,
    *,
    caches: int = 0,
) -> dict[str, int]:
    """Bytes that this process holds after a step, while the gradients are there, by name.

    ``student`` is its weights and those of what is trained beside it, ``teacher`` those of a
    teacher that runs here, less what it reads from the student, ``gradients`` and ``optimizer``
    what belongs to the trained weights, and ``caches`` the keys and values of generation, where
    some stay beside training. Nothing is counted twice.

    Args:
        learner: The student with what is trained beside it.
        teacher: None where the stage needs none.
        optimizer: Of the stage.
        caches: Bytes of keys and values.
    """
    known: set[int] = set()
    states = (tensor for state in optimizer.state.values() for tensor in state.values())
    return {
        **_models(learner, teacher, known),
        "gradients": _new_bytes((p.grad for p in learner.parameters()), known),
        "optimizer": _new_bytes(states, known),
        **({"caches": caches} if caches else {}),
    }


def expected_parts(
    learner: nn.Module, teacher: Teacher | None, optim: str, *, caches: int = 0
) -> dict[str, int]:
    """About the bytes that `held_by_parts` finds after a step, from the weights alone.

    Args:
        learner: As there.
        teacher: As there.
        optim: How AdamW's averages are held.
        caches: As there.
    """
    trained = [p for p in learner.parameters() if p.requires_grad]
    gradients = _new_bytes(trained, set())
    return {
        **_models(learner, teacher, set()),
        "gradients": gradients,
        "optimizer": int(2 * gradients * _OF_FLOAT32[optim]),
        **({"caches": caches} if caches else {}),
    }


def _models(learner: nn.Module, teacher: Teacher | None, known: set[int]) -> dict[str, int]:
    student = _new_bytes(_weights(learner), known)
    models = teacher.models if teacher else ()
    return {"student": student, "teacher": sum(_new_bytes(_weights(m), known) for m in models)}


def _weights(model: nn.Module) -> Iterable[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _new_bytes(tensors: Iterable[Tensor | None], known: set[int]) -> int:
    """Bytes of the storages that are not counted yet."""
    total = 0
    for tensor in tensors:
        for part in _plain(tensor):
            if part.is_meta:  # a layer that is elsewhere while it does not compute
                continue
            if part.is_mkldnn:  # laid out for the processor, in a memory that torch does not show
                total += part.numel() * part.element_size()
                continue
            storage = part.untyped_storage()
            if storage.data_ptr() not in known:
                known.add(storage.data_ptr())
                total += storage.nbytes()
    return total


def _plain(tensor: Tensor | None) -> list[Tensor]:
    """The tensors that hold the numbers: one, or those of a quantized, sharded or sparse tensor."""
    if not isinstance(tensor, Tensor):
        return []
    if isinstance(tensor, DTensor):
        return _plain(tensor.to_local())
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        return [found for name in names for found in _plain(getattr(tensor, name))]
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    return [tensor.detach()]
