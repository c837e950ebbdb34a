"""One optimizer step, whose result does not depend on how the step is split.

Objectives give sums; the step divides them once, by counts over all micro-batches
and processes. A mean of means would make the result depend on how a step is split.

A step never waits for the device: its figures stay there until they are read, and whether they are
finite is decided there.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from ..activations import Activations
from ..batch import Batch, moved
from ..errors import TrainingError
from ..system.device import sums_dtype
from ..teacher.contract import Teacher
from .checkpoint import Position
from .optimizer import step_unless
from .processes import (
    Share,
    micro_batches,
    summed,
    summed_there,
    summing_gradients,
    whole,
)
from .stage import Stage
from .taken import Taken

_TOKENS = "tokens read"  # no objective has this name


def train_step(
    learner: nn.Module,
    teacher: Teacher | None,
    stage: Stage,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    position: Position,
    failed: Float[Tensor, ""] | None = None,
) -> Taken:
    """Take one optimizer step, without waiting for the device.

    Where the loss or its gradient is not finite, nothing is changed, and reading the step's figures
    tells it. An optimizer that cannot leave a step out on the device waits for that answer
    (`optimizer.step_unless`).

    Args:
        learner: As `distribute` returned it.
        teacher: None where no objective needs one.
        stage: Objectives, their weights, and the number of rows of the whole step.
        batch: The rows of this process's share.
        optimizer: Takes the step.
        accelerator: Device, precision and processes.
        position: The position of the run.
        failed: 0 on the device; becomes 1 where the step is not finite, and steps that are given 1
            change nothing. None is for a step on its own.

    Raises:
        TrainingError: The loss depends on nothing that is trained.
    """
    torch.manual_seed(_seed_of(stage, position.step, accelerator.process_index))
    optimizer.zero_grad(set_to_none=True)
    means, tokens = _add_gradients(learner, teacher, stage, batch, accelerator, position)
    norm = _clip_gradients(optimizer, stage).to(means.dtype)
    failed = torch.zeros((), device=accelerator.device) if failed is None else failed
    finite = torch.cat([means, norm[None]]).isfinite().all()
    failed.copy_(failed.maximum((~finite).float()))
    step_unless(optimizer, failed)
    return Taken(stage, position, torch.cat([means, norm[None], tokens[None]]))


def _add_gradients(
    learner: nn.Module,
    teacher: Teacher | None,
    stage: Stage,
    batch: Batch,
    accelerator: Accelerator,
    position: Position,
) -> tuple[Float[Tensor, " objectives"], Float[Tensor, ""]]:
    """Compute the step's gradients; returns the objectives' means and the student's tokens."""
    share = Share.of(stage.batch_size, accelerator, together=stage.rows_together)
    counts, tokens = _counted(stage, batch, share, accelerator)
    progress = stage.progress(position.step)
    weights = stage.weights_at(progress)
    means: dict[str, Tensor] = {}
    for part, weight, last in micro_batches(batch, share, stage.micro_batch_size):
        micro = part.to(accelerator.device)
        with summing_gradients(learner, last=last):
            signals = teacher_signals(teacher, stage, micro, accelerator)
            with accelerator.autocast():
                totals = learner(micro, signals, progress)
            # Gradients are averaged over processes, but the counts are over all processes.
            scale = weight * accelerator.num_processes
            terms = [_times(weights[n] * scale / counts[n], t) for n, t in totals.items()]
            loss = torch.stack(terms).sum()
            if not loss.requires_grad:
                raise _nothing_trained(stage, totals)
            torch.autograd.backward(loss)
        for name, total in totals.items():
            mean = weight * total.detach().to(sums_dtype(total.device)) / counts[name]
            means[name] = means[name] + mean if name in means else mean
    return summed_there(torch.stack([means[name] for name in counts]), accelerator), tokens


def _times(factor: float | Tensor, total: Tensor) -> Tensor:
    """A total times a factor, in the precision of the total, as that of a number is."""
    return (factor.to(total.dtype) if isinstance(factor, Tensor) else factor) * total


def _nothing_trained(stage: Stage, names: Iterable[str]) -> TrainingError:
    return TrainingError(
        f"no objective of stage {stage.name!r} ({', '.join(names)}) depends on what is trained in"
        f" it (trainable: {stage.trainable}); nothing would be learned. Train all, or name an"
        " objective that does"
    )


def _clip_gradients(optimizer: torch.optim.Optimizer, stage: Stage) -> Float[Tensor, ""]:
    """Scale the gradients down to the stage's `max_grad_norm`; returns their norm before that."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return whole(torch.nn.utils.clip_grad_norm_(parameters, stage.optimizer.max_grad_norm))


def mean_values(
    learner: nn.Module,
    teacher: Teacher | None,
    stage: Stage,
    batches: list[Batch],
    accelerator: Accelerator,
) -> dict[str, float]:
    """Each objective's mean over the items of all batches, without learning."""
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(stage.objectives, 0.0)
    was_training = learner.training
    learner.eval()
    with torch.no_grad():
        for batch in batches:
            share = Share.of(len(batch.student.mask), accelerator, together=stage.rows_together)
            mine = batch.rows(share.rows.start, share.rows.stop)
            here, weight = mine.to(accelerator.device), float(share.real > 0)
            signals = teacher_signals(teacher, stage, here, accelerator)
            with accelerator.autocast():
                found = learner(here, signals)
            for name, total in found.items():
                value = weight * total.to(sums_dtype(total.device))
                sums[name] = sums[name] + value if name in sums else value
                counts[name] += weight * stage.count(name, mine)
    learner.train(was_training)
    totals = dict(zip(sums, torch.stack([*sums.values()]).tolist(), strict=True))
    totals, counts = summed(totals, accelerator), summed(counts, accelerator)
    return {name: totals[name] / max(1.0, counts[name]) for name in totals}


def _counted(
    stage: Stage, batch: Batch, share: Share, accelerator: Accelerator
) -> tuple[Mapping[str, float | Tensor], Float[Tensor, ""]]:
    """The items of each objective in the whole step, at least 1, and the student's tokens.

    One process knows them from its batch; of several, the sums stay on the device.
    """
    own = {name: float(stage.count(name, batch)) for name in stage.objectives}
    own[_TOKENS] = float(batch.student.mask.sum())
    device, weight = accelerator.device, float(share.real > 0)
    if accelerator.num_processes == 1:
        tokens = torch.full((), own.pop(_TOKENS), dtype=sums_dtype(device), device=device)
        return {name: max(1.0, count) for name, count in own.items()}, tokens
    numbers = torch.tensor([weight * count for count in own.values()], dtype=sums_dtype(device))
    found = summed_there(moved(numbers, device), accelerator)
    counts = dict(zip(own, found.clamp_min(1.0), strict=True))
    counts.pop(_TOKENS)
    return counts, found[-1]


def _seed_of(stage: Stage, step: int, process: int) -> int:
    """The seed of a step's randomness, such as dropout: one per process, and no state to keep."""
    return int(np.random.default_rng((stage.seed, step, process)).integers(2**62))


def teacher_signals(
    teacher: Teacher | None, stage: Stage, batch: Batch, accelerator: Accelerator
) -> Activations:
    """What a stage's objectives need of the teacher; nothing without a teacher."""
    if teacher is None:
        return Activations()
    with accelerator.autocast():
        return teacher.signals(batch, stage.teacher_needs())
