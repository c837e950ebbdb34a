"""AdamW for the learner, and its learning rate as a pure function of the step.

Source: Loshchilov and Hutter 2019, arXiv:1711.05101; averages in 8 bits, Dettmers et al. 2022,
arXiv:2110.02861; in 4 bits, Li et al. 2023, arXiv:2309.01507.
"""

import math
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..errors import MissingExtraError, TrainingError
from ..models.quantized import quantization_missing
from .settings import OptimizerSettings

_PART = "."  # between the name of a quantized average and that of one of its tensors
_SIGNED = {"exp_avg": True, "exp_avg_sq": False}  # whether an average can be below 0


def build_optimizer(learner: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW over all trainable parameters of the learner, without weight decay of vectors.

    Raises:
        MissingExtraError: The averages are to be quantized, and torchao is not installed.
        TrainingError: They are to be quantized, and parameters are sharded over processes.
    """
    parameters = [p for p in learner.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.dim() >= 2]
    vectors = [p for p in parameters if p.dim() < 2]
    groups: Iterable[dict[str, Any]] = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate, betas = settings.learning_rate, (0.9, settings.adam_beta2)
    if settings.optim == "adamw_torch":
        return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=1e-6, fused=True)
    if any(isinstance(p, DTensor) for p in parameters):
        check_shards(settings)
    if missing := quantization_missing():
        raise MissingExtraError(missing)
    from torchao.optim import AdamW4bit, AdamW8bit

    kind = AdamW8bit if settings.optim == "adamw_torch_8bit" else AdamW4bit
    found: torch.optim.Optimizer = kind(groups, lr=rate, betas=betas, eps=1e-6)
    return found


def check_shards(settings: OptimizerSettings) -> None:
    """See that an optimizer can train weights of which each process keeps a shard.

    Raises:
        TrainingError: Its averages are quantized.
    """
    if settings.optim != "adamw_torch":
        raise TrainingError(
            f"optim: {settings.optim} is for weights that are not sharded over processes; leave"
            " FSDP off, or use adamw_torch"
        )


def trained_parameters(optimizer: torch.optim.Optimizer) -> int:
    """How many numbers it trains."""
    return sum(p.numel() for group in optimizer.param_groups for p in group["params"])


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let the next step have this learning rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def step_unless(optimizer: torch.optim.Optimizer, failed: Float[Tensor, ""]) -> None:
    """Take the optimizer's step where ``failed`` is 0; where it is 1, nothing is changed.

    AdamW decides it on the device. Any other optimizer has no such choice, so the process waits for
    the answer.

    Raises:
        TrainingError: The step is compiled first, and cannot be.
    """
    if isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]:
        # As torch's own GradScaler tells its fused optimizers.
        optimizer.found_inf = failed  # type: ignore[attr-defined]
        optimizer.step()
    elif not bool(failed):
        _step_compiled(optimizer)


def _step_compiled(optimizer: torch.optim.Optimizer) -> None:
    """Take the step of a quantized optimizer, which torchao compiles first.

    Raises:
        TrainingError: It cannot be compiled.
    """
    try:
        optimizer.step()
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # what compiles imports much

        if not isinstance(error, TorchDynamoException):
            raise
        raise TrainingError(
            f"torch cannot compile the step of {type(optimizer).__name__}"
            f" ({' '.join(str(error).split()):.80}). Where a process was ended while it compiled,"
            " what it left may be broken: remove torchinductor_USER in"
            f" {tempfile.gettempdir()}, or the folder that TORCHINDUCTOR_CACHE_DIR names; and see"
            " that there is a C++ compiler. optim: adamw_torch needs neither"
        ) from error


def state_tensors(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    """What an optimizer holds for a parameter, as plain tensors by name.

    A quantized average is its tensors, as ``exp_avg.codes``.
    """
    found: dict[str, Tensor] = {}
    for kind, tensor in optimizer.state.get(parameter, {}).items():
        if is_traceable_wrapper_subclass(tensor) and not isinstance(tensor, DTensor):
            names, _ = tensor.__tensor_flatten__()
            found |= {f"{kind}{_PART}{name}": getattr(tensor, name) for name in names}
        else:
            found[kind] = tensor
    return found


def restore_state(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter, tensors: Mapping[str, Tensor]
) -> None:
    """Give an optimizer what `state_tensors` returned for a parameter."""
    state = optimizer.state[parameter]
    maker: Any = optimizer
    for name, tensor in tensors.items():
        kind, _, part = name.partition(_PART)
        if not part:
            state[kind] = tensor
            continue
        if kind not in state:  # as torchao makes it before the first step
            state[kind] = maker._new_buffer(parameter, _SIGNED[kind])
        getattr(state[kind], part).copy_(tensor)


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """The learning rate of a step, counted from 0, without any state that would have to be resumed.

    >>> half = OptimizerSettings(learning_rate=1.0, warmup_ratio=0.5)
    >>> [learning_rate(step, 8, half) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warmup = round(steps * settings.warmup_ratio)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    left = (steps - step) / max(1, steps - warmup)
    if settings.lr_scheduler_type == "linear":
        return settings.learning_rate * left
    if settings.lr_scheduler_type == "cosine":
        return settings.learning_rate * 0.5 * (1 - math.cos(math.pi * left))
    return settings.learning_rate
