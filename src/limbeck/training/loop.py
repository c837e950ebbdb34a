"""The loop: batches in, a trained student out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from ..batch import Batch
from ..errors import InterruptedRunError
from ..system.memory import peak_bytes
from ..system.progress import ProgressBar
from ..teacher.contract import Teacher
from ..tokenization.batching import BatchSource
from .ahead import made_ahead
from .checkpoint import Position, load_batches, load_optimizer, save_checkpoint
from .interrupt import interruptible
from .optimizer import build_optimizer, learning_rate
from .processes import Share, have_all_weights, spread, summed, telling_of_lost_processes, unspread
from .records import RunLog, Window, step_facts
from .stages import Stage
from .step import mean_values, train_step


@dataclass(frozen=True)
class Rhythm:
    """How often, in steps, something besides training happens.

    Attributes:
        log: Records in log.jsonl; there is one at every checkpoint too, so that none is a
            mean over steps on both sides of one, of which a resumed run knows one side.
        held_out: Objectives on held-out text, also before the first step and after the last.
        checkpoint: Checkpoints, also at the end of a stage and at Ctrl-C.
        keep: How many of them are kept, the last ones.
    """

    log: int = 20
    held_out: int = 200
    checkpoint: int = 200
    keep: int = 2


def train_stage(
    learner: nn.Module,
    teacher: Teacher | None,
    stage: Stage,
    batches: BatchSource,
    held_out: list[Batch],
    *,
    accelerator: Accelerator,
    start: Position,
    checkpoint: Path | None,
    run: Path,
    rhythm: Rhythm,
    console: Console,
) -> Position:
    """Train from ``start`` to the end of the stage, and say where the run then stands.

    Args:
        learner: Changed in place.
        teacher: None where no objective needs one.
        stage: Objectives, length and settings.
        batches: Batch number n is learned from in step n.
        held_out: Measured now and then, never learned from.
        accelerator: Device, precision and processes.
        start: Where the run stands; its step is 0 at the start of a stage.
        checkpoint: Where to take the optimizer's state from, in the middle of a stage.
        run: The run folder.
        rhythm: When to log, measure and checkpoint.
        console: Where the progress bar goes.

    Raises:
        TrainingError: A loss or gradient is not finite, a checkpoint cannot be
            written, or the user interrupts.
    """
    wrapped = spread(learner, accelerator)
    # Dropout would only add noise to what is copied; `Stage.dropout` says whether it is wanted.
    wrapped.train(stage.dropout)
    optimizer = build_optimizer(learner, stage.optimizer)
    if checkpoint is not None:
        load_optimizer(checkpoint, learner, optimizer)
        batches.load_state(load_batches(checkpoint))
    log = RunLog(run / "log.jsonl")
    position, window = start, Window()

    def note(extra: Mapping[str, object]) -> None:
        record = {"stage": stage.name, "stage_number": position.stage, "step": position.step}
        record |= {"tokens": position.tokens, **extra}
        if accelerator.is_main_process:
            log.write(record)
            accelerator.log(_flat(record), step=position.step)

    def measure() -> None:
        note({"held_out": mean_values(wrapped, teacher, stage, held_out, accelerator)})

    def save() -> None:
        save_checkpoint(
            run / "state",
            position,
            learner,
            optimizer,
            batches.state(),
            keep=rhythm.keep,
            write=accelerator.is_main_process,
        )

    share = Share.of(stage.batch_size, accelerator)
    with (
        ProgressBar(stage.name, console=console) as progress,
        interruptible() as interrupted,
        made_ahead(batches, stage.steps, share.rows) as ahead,
        telling_of_lost_processes(accelerator),
    ):
        if position.step == 0 and held_out:
            measure()
        while position.step < stage.steps:
            began = time.perf_counter()
            rate = learning_rate(position.step, stage.steps, stage.optimizer)
            for group in optimizer.param_groups:
                group["lr"] = rate
            have_all_weights(wrapped)  # some batches are written with them
            batch = ahead.batch(position.step)
            taken = train_step(wrapped, teacher, stage, batch, optimizer, accelerator, position)
            means, tokens = taken.means, taken.tokens
            seconds = time.perf_counter() - began
            position = replace(
                position,
                step=position.step + 1,
                tokens=position.tokens + tokens,
                seconds=position.seconds + seconds,
            )
            window.add(means, tokens, seconds)
            progress.show(position.step, stage.steps, step_facts(means, tokens / seconds))
            last = position.step == stage.steps
            saves = position.step % rhythm.checkpoint == 0
            if last or saves or position.step % rhythm.log == 0:
                spent = {
                    "seconds": position.seconds,
                    "peak_memory_bytes": peak_bytes(accelerator.device.type),
                    "trainable_parameters": _learning(optimizer),
                }
                spent["waited_share"] = ahead.waited / window.seconds
                ahead.waited = 0.0
                weights = stage.weights_at(stage.progress(position.step - 1))
                note({**window.facts(weights), **batches.facts(), "learning_rate": rate, **spent})
                window = Window()
            if held_out and (last or position.step % rhythm.held_out == 0):
                measure()
            stop = summed({"stop": float(interrupted())}, accelerator)["stop"] > 0
            if stop or (saves and not last):
                save()
            if stop:
                raise InterruptedRunError(
                    f"stopped at step {position.step} of stage {stage.name!r}; the checkpoint is"
                    " whole. Run the same command again to go on"
                )
    unspread(learner)
    return position


def _learning(optimizer: torch.optim.Optimizer) -> int:
    return sum(p.numel() for group in optimizer.param_groups for p in group["params"])


def _flat(record: Mapping[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{inner}": number for inner, number in value.items()}
        elif isinstance(value, (int, float)):
            flat[name] = value
    return flat
