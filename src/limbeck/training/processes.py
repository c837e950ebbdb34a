"""One step shared by several processes: each makes some rows, and all take the same step.

Every process makes as many forwards as the others, so that none waits for a
gradient that never comes; where rows run out, a row is computed that weighs
nothing. What the loop divides by is counted over the whole step, so the sums
of the processes are added, never averaged.

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


def spread(learner: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The learner on its device, as every process trains it.

    With FSDP every process keeps a share of the weights and of the optimizer's state, and
    has all of them only during a step; its parameters are then `DTensor`.
    """
    learner.to(accelerator.device)
    if accelerator.num_processes == 1:
        return learner
    if keeps_shares(accelerator):
        fully_shard(learner, mesh=_mesh(accelerator))
        return learner
    device = accelerator.device
    # The last layer's output is not on the way of every objective.
    return DistributedDataParallel(
        learner,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=True,
    )


def shard_layers(layers: nn.Module, accelerator: Accelerator) -> None:
    """With FSDP, every process keeps a share of each layer, and has one whole at a time."""
    if keeps_shares(accelerator):
        for layer in layers.children():
            fully_shard(layer, mesh=_mesh(accelerator))


def check_one_process(what: str) -> None:
    """See that no launcher has started several processes for what is done by one.

    Args:
        what: Is done.

    Raises:
        TrainingError: It has.
    """
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise TrainingError(
            f"{what} runs in one process, not {processes}: start it without the launcher, or train"
            " a recipe with it (limbeck distill RECIPE)"
        )


def keeps_shares(accelerator: Accelerator) -> bool:
    """Whether several processes share the weights, as the launcher asked for FSDP.

    Raises:
        TrainingError: It asked for the first version, which is not served.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if not asked or accelerator.num_processes == 1:
        return False
    if (version := os.environ.get("FSDP_VERSION", "2")) != "2":
        raise TrainingError(
            f"the launcher asks for FSDP version {version}; give fsdp_version: 2 in its"
            " configuration (FSDP_VERSION=2)"
        )
    return True


def _mesh(accelerator: Accelerator) -> DeviceMesh:
    return _mesh_of(accelerator.device.type, accelerator.num_processes)


@lru_cache(maxsize=1)  # a mesh opens connections, and one serves all
def _mesh_of(device: str, processes: int) -> DeviceMesh:
    return init_device_mesh(device, (processes,))


@dataclass(frozen=True)
class Share:
    """What one of several processes computes of a batch.

    Attributes:
        rows: Which; where there are none for it, one that weighs nothing.
        real: How many of these count.
        most: How many the process with the most has.
    """

    rows: slice
    real: int
    most: int

    @classmethod
    def of(cls, rows: int, accelerator: Accelerator) -> "Share":
        """This process's share of so many rows."""
        most = -(-rows // accelerator.num_processes)
        first = accelerator.process_index * most
        stop = min(rows, first + most)
        if first >= stop:
            return cls(slice(0, 1), 0, most)
        return cls(slice(first, stop), stop - first, most)


def micro_batches(batch: Batch, share: Share, size: int) -> Iterator[tuple[Batch, float, bool]]:
    """What this process computes, forward by forward: rows, their weight (1 or 0), if the last.

    Args:
        batch: The rows of the share.
        share: Of the whole batch.
        size: Rows in one forward, at most.
    """
    starts = range(0, share.most, size)
    for start in starts:
        mine = start < share.real
        here = batch.rows(start, min(start + size, share.real)) if mine else batch.rows(0, 1)
        yield here, float(mine), start == starts[-1]


def have_all_weights(learner: nn.Module) -> None:
    """Gather the weights of which each process keeps a share, until the step is over."""
    if isinstance(learner, FSDPModule):
        learner.unshard()


def have_own_share(learner: nn.Module) -> None:
    """Give back what was gathered: the parameters are those that the optimizer knows."""
    if isinstance(learner, FSDPModule):
        learner.reshard()


@contextmanager
def summing_gradients(learner: nn.Module, *, last: bool) -> Iterator[None]:
    """Within it a backward adds up gradients over the processes only if it is the step's last."""
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


def whole(tensor: Tensor) -> Tensor:
    """The tensor of which each process keeps a share; every process has to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shares_like(value: Tensor, place: Tensor) -> Tensor:
    """A whole tensor as its shares, where ``place`` of the same shape is kept so."""
    if isinstance(place, DTensor):
        return distribute_tensor(value.to(place.device), place.device_mesh, place.placements)
    return value


@torch.no_grad()
def unspread(learner: nn.Module) -> None:
    """Give every process all weights again, as plain parameters; tied ones stay tied."""
    have_own_share(learner)
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
    """Says plainly that another process is gone, where a step fails for that reason.

    Raises:
        TrainingError: In place of the library's message.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if accelerator.num_processes == 1 or not any(s in text.lower() for s in _LOST):
            raise
        raise TrainingError(
            f"process {accelerator.process_index} of {accelerator.num_processes} lost another one,"
            f" which has ended or does not answer ({text.strip().splitlines()[0]:.200}). What it"
            " said before that is above. The last checkpoint is whole: run the same command"
            " again, with any number of processes, to go on"
        ) from error
