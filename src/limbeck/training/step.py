"""One optimizer step, whose result does not depend on how the step is split.

Objectives give sums; the step divides them once, by counts over all micro-batches
and processes. A mean of means would make the result depend on how a step is split.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ..activations import Activations
from ..batch import Batch
from ..errors import DivergedError, TrainingError
from ..teacher.contract import Teacher
from .checkpoint import Position
from .processes import Share, micro_batches, summed, summing_gradients, whole
from .stage import Stage

_TOKENS = "tokens read"  # no objective has this name


@dataclass(frozen=True)
class Taken:
    """Facts of a step, over all processes.

    Attributes:
        means: Mean of each objective over its items.
        tokens: Number of tokens that the student read.
    """

    means: dict[str, float]
    tokens: int


def train_step(
    learner: nn.Module,
    teacher: Teacher | None,
    stage: Stage,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    position: Position,
) -> Taken:
    """Take one optimizer step.

    Args:
        learner: As `distribute` returned it.
        teacher: None where no objective needs one.
        stage: Objectives, their weights, and the number of rows of the whole step.
        batch: The rows of this process's share.
        optimizer: Takes the step.
        accelerator: Device, precision and processes.
        position: The position of the run.

    Raises:
        TrainingError: The loss or its gradient is not finite, or depends on nothing that is
            trained; no step was taken.
    """
    torch.manual_seed(_seed_of(stage, position.step, accelerator.process_index))
    optimizer.zero_grad(set_to_none=True)
    means, tokens = _add_gradients(learner, teacher, stage, batch, accelerator, position)
    norm = _clip_gradients(optimizer, stage)
    _check_finite(means, norm, stage, position)
    optimizer.step()
    return Taken(means, tokens)


def _add_gradients(
    learner: nn.Module,
    teacher: Teacher | None,
    stage: Stage,
    batch: Batch,
    accelerator: Accelerator,
    position: Position,
) -> tuple[dict[str, float], int]:
    """Compute the step's gradients; returns the objectives' means and the student's tokens."""
    share = Share.of(stage.batch_size, accelerator, together=stage.rows_together)
    counts, tokens = _counted(stage, batch, share, accelerator)
    means = dict.fromkeys(counts, 0.0)
    progress = stage.progress(position.step)
    weights = stage.weights_at(progress)
    for part, weight, last in micro_batches(batch, share, stage.micro_batch_size):
        micro = part.to(accelerator.device)
        with summing_gradients(learner, last=last):
            signals = teacher_signals(teacher, stage, micro, accelerator)
            with accelerator.autocast():
                totals = learner(micro, signals, progress)
            # Gradients are averaged over processes, but the counts are over all processes.
            scale = weight * accelerator.num_processes
            terms = [weights[n] * scale / counts[n] * total for n, total in totals.items()]
            loss = torch.stack(terms).sum()
            if not loss.requires_grad:
                raise _nothing_trained(stage, totals)
            torch.autograd.backward(loss)
        for name, total in totals.items():
            means[name] += weight * float(total.detach()) / counts[name]
    return summed(means, accelerator), tokens


def _nothing_trained(stage: Stage, names: Iterable[str]) -> TrainingError:
    return TrainingError(
        f"no objective of stage {stage.name!r} ({', '.join(names)}) depends on what is trained in"
        f" it (trainable: {stage.trainable}); nothing would be learned. Train all, or name an"
        " objective that does"
    )


def _clip_gradients(optimizer: torch.optim.Optimizer, stage: Stage) -> float:
    """Scale the gradients down to the stage's `max_grad_norm`; returns their norm before that."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return float(whole(torch.nn.utils.clip_grad_norm_(parameters, stage.optimizer.max_grad_norm)))


def _check_finite(
    means: Mapping[str, float], norm: float, stage: Stage, position: Position
) -> None:
    if not all(map(_finite, [*means.values(), norm])):
        values = ", ".join(f"{name} {value}" for name, value in means.items())
        raise DivergedError(
            f"the loss is not finite at batch {position.step} of stage {stage.name!r} ({values},"
            f" gradient norm {norm}); no step was taken and the last checkpoint is whole. Lower"
            f" the learning rate ({stage.optimizer.learning_rate:g}), or use precision: float32"
        )


def mean_values(
    learner: nn.Module,
    teacher: Teacher | None,
    stage: Stage,
    batches: list[Batch],
    accelerator: Accelerator,
) -> dict[str, float]:
    """Each objective's mean over the items of all batches, without learning."""
    totals = dict.fromkeys(stage.objectives, 0.0)
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
                totals[name] += weight * float(total)
                counts[name] += weight * stage.count(name, mine)
    learner.train(was_training)
    totals, counts = summed(totals, accelerator), summed(counts, accelerator)
    return {name: totals[name] / max(1.0, counts[name]) for name in totals}


def _counted(
    stage: Stage, batch: Batch, share: Share, accelerator: Accelerator
) -> tuple[dict[str, float], int]:
    """The items of each objective in the whole step, at least 1, and the student's tokens."""
    own = {name: float(stage.count(name, batch)) for name in stage.objectives}
    own[_TOKENS] = float(batch.student.mask.sum())
    weight = float(share.real > 0)
    found = summed({name: weight * count for name, count in own.items()}, accelerator)
    tokens = int(found.pop(_TOKENS))
    return {name: max(1.0, count) for name, count in found.items()}, tokens


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


def _finite(value: float) -> bool:
    return value - value == 0.0
