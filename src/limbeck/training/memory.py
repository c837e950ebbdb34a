"""The memory of a training by what it holds: weights, gradients, states of the optimizer."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..teacher.contract import Teacher


def held_by_parts(
    learner: nn.Module, teacher: Teacher | None, optimizer: torch.optim.Optimizer
) -> dict[str, int]:
    """Bytes that this process holds after a step, while the gradients are there, by name.

    ``student`` is its weights and those of what is trained beside it, ``teacher`` those of a
    teacher that runs here, less what it reads from the student, ``gradients`` and ``optimizer``
    what belongs to the trained weights. Nothing is counted twice.

    Args:
        learner: The student with what is trained beside it.
        teacher: One that runs here has a ``model``; others hold no weights.
        optimizer: Of the stage.
    """
    known: set[int] = set()
    model = getattr(teacher, "model", None)
    states = (tensor for state in optimizer.state.values() for tensor in state.values())
    return {
        "student": _new_bytes(_weights(learner), known),
        "teacher": _new_bytes(_weights(model), known) if isinstance(model, nn.Module) else 0,
        "gradients": _new_bytes((p.grad for p in learner.parameters()), known),
        "optimizer": _new_bytes(states, known),
    }


def _weights(model: nn.Module) -> Iterable[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _new_bytes(tensors: Iterable[Tensor | None], known: set[int]) -> int:
    """Bytes of the storages that are not counted yet."""
    total = 0
    for tensor in tensors:
        for part in _plain(tensor):
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
