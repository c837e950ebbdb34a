"""One step shared by several processes: each computes some rows, and all take the same step.

Every process makes the same number of forwards, so that none waits for a gradient that
never comes; a process without rows left computes a row of weight 0. The loop divides by
counts over the whole step, so the sums of the processes are added, never averaged.

Source: Rajbhandari et al. 2020, ZeRO, arXiv:1910.02054 (sharded weights).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from ..batch import Batch
from ..errors import TrainingError

_LOST = ("closed by peer", "reset by peer", "timed out", "timeout", "nccl", "broken pipe")


def distribute(learner: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Move the learner to its device, wrapped for training with several processes.

    With FSDP every process keeps a shard of the weights and of the optimizer's state, and
    has all of them only during a step; the parameters are then `DTensor`.
    """
    learner.to(accelerator.device)
    if accelerator.num_processes == 1:
        return learner
    if keeps_shards(accelerator):
        fully_shard(learner, mesh=_mesh(accelerator))
        return learner
    device = accelerator.device
    # Some objectives do not depend on the last layer.
    return DistributedDataParallel(
        learner,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=True,
    )


def shard_layers(layers: nn.Module, accelerator: Accelerator) -> None:
    """With FSDP, every process keeps a shard of each layer, and gathers one layer at a time."""
    if keeps_shards(accelerator):
        for layer in layers.children():
            # Without `reshard_after_forward`, torch keeps what no other sharded module contains
            # gathered, and so all layers.
            fully_shard(layer, mesh=_mesh(accelerator), reshard_after_forward=True)


def keeps_shards(accelerator: Accelerator) -> bool:
    """Whether the weights are sharded over several processes, because the launcher uses FSDP.

    Raises:
        TrainingError: The launcher requires FSDP version 1, which is not supported.
    """
    requested = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if not requested or accelerator.num_processes == 1:
        return False
    if (version := os.environ.get("FSDP_VERSION", "2")) != "2":
        raise TrainingError(
            f"the launcher requires FSDP version {version}; give fsdp_version: 2 in its"
            " configuration (FSDP_VERSION=2)"
        )
    return True


def _mesh(accelerator: Accelerator) -> DeviceMesh:
    return _mesh_of(accelerator.device.type, accelerator.num_processes)


@lru_cache(maxsize=1)  # a mesh opens connections, and one is enough for all
def _mesh_of(device: str, processes: int) -> DeviceMesh:
    return init_device_mesh(device, (processes,))


@dataclass(frozen=True)
class Share:
    """What one of several processes computes of a batch.

    Attributes:
        rows: The rows of this process; a single row of weight 0 where none is left for it.
        real: How many of the rows count.
        most: How many rows the process with the most rows has.
    """

    rows: slice
    real: int
    most: int

    @classmethod
    def of(cls, rows: int, accelerator: Accelerator, *, together: int = 1) -> "Share":
        """This process's share of that many rows; those of a group have the same process.

        Args:
            rows: Of the whole batch.
            accelerator: How many processes there are, and which one this is.
            together: Consecutive rows in a group.
        """
        groups = -(-rows // together)
        most = -(-groups // accelerator.num_processes) * together
        first = accelerator.process_index * most
        stop = min(rows, first + most)
        if first >= stop:
            return cls(slice(0, 1), 0, most)
        return cls(slice(first, stop), stop - first, most)


def micro_batches(batch: Batch, share: Share, size: int) -> Iterator[tuple[Batch, float, bool]]:
    """The micro-batches of this process: rows, their weight (1 or 0), and whether it is the last.

    Args:
        batch: The rows of the share.
        share: This process's share of the whole batch.
        size: The most rows in one forward.
    """
    starts = range(0, share.most, size)
    for start in starts:
        mine = start < share.real
        here = batch.rows(start, min(start + size, share.real)) if mine else batch.rows(0, 1)
        yield here, float(mine), start == starts[-1]


def gather_weights(learner: nn.Module) -> None:
    """With FSDP, gather all weights in every process, until the step is over."""
    if isinstance(learner, FSDPModule):
        learner.unshard()


def free_gathered_weights(learner: nn.Module) -> None:
    """With FSDP, free gathered weights: the parameters are the shards that the optimizer knows."""
    if isinstance(learner, FSDPModule):
        learner.reshard()


@contextmanager
def summing_gradients(learner: nn.Module, *, last: bool) -> Iterator[None]:
    """A backward inside sums gradients over the processes only if it is the step's last."""
    if isinstance(learner, FSDPModule):
        learner.set_requires_gradient_sync(last)
    if isinstance(learner, DistributedDataParallel) and not last:
        with learner.no_sync():
            yield
    else:
        yield


def summed(values: Mapping[str, float], accelerator: Accelerator) -> dict[str, float]:
    """The sums of the values over all processes, by name."""
    if accelerator.num_processes == 1:
        return dict(values)
    numbers = torch.tensor([*values.values()], device=accelerator.device, dtype=torch.float64)
    torch.distributed.all_reduce(numbers)
    return dict(zip(values, numbers.tolist(), strict=True))


def summed_there(values: Tensor, accelerator: Accelerator) -> Tensor:
    """The sums of the values over all processes, on their device; waits for none of them.

    The given tensor is changed.
    """
    if accelerator.num_processes > 1:
        torch.distributed.all_reduce(values)
    return values


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, where each process keeps a shard; every process has to call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(value: Tensor, place: Tensor) -> Tensor:
    """The tensor, sharded as ``place`` of the same shape is."""
    if isinstance(place, DTensor):
        return distribute_tensor(value.to(place.device), place.device_mesh, place.placements)
    return value


@torch.no_grad()
def undistribute(learner: nn.Module) -> None:
    """Give every process all weights as plain parameters; tied parameters stay tied."""
    free_gathered_weights(learner)
    fresh: dict[int, nn.Parameter] = {}
    for module in learner.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if isinstance(parameter, DTensor):
                if id(parameter) not in fresh:
                    tensor = parameter.full_tensor()
                    fresh[id(parameter)] = nn.Parameter(tensor, parameter.requires_grad)
                setattr(module, name, fresh[id(parameter)])


@contextmanager
def telling_of_lost_processes(accelerator: Accelerator) -> Iterator[None]:
    """Replaces the library's error by a plain one where a step fails because a process is lost.

    Raises:
        TrainingError: Another process has ended or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if accelerator.num_processes == 1 or not any(s in text.lower() for s in _LOST):
            raise
        raise TrainingError(
            f"process {accelerator.process_index} of {accelerator.num_processes} lost another one,"
            f" which has ended or does not answer ({text.strip().splitlines()[0]:.200}). Its last"
            " messages are above. The last checkpoint is whole: run the same command again, with"
            " any number of processes, to resume"
        ) from error
