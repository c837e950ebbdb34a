"""The loop: batches in, a trained student out."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from torch import nn

from ..batch import Batch
from ..errors import InterruptedRunError
from ..system.memory import peak_bytes
from ..system.progress import ProgressBar
from ..teacher.contract import Teacher
from ..tokenization.batching import BatchSource
from .ahead import Ahead, made_ahead
from .checkpoint import Position, load_batches, load_optimizer, save_checkpoint
from .flops import limit, step_flops
from .interrupt import SharedFlag, interruptible
from .memory import held_by_parts
from .optimizer import build_optimizer, learning_rate, set_learning_rate, trained_parameters
from .processes import Share, distribute, gather_weights, telling_of_lost_processes, undistribute
from .records import RunLog, Window, flattened, step_facts
from .rhythm import RunContext
from .stage import Stage
from .step import mean_values, train_step
from .taken import Unread

_SHOWN_EVERY = 5.0  # seconds between readings for the progress bar alone


def train_stage(
    learner: nn.Module,
    teacher: Teacher | None,
    stage: Stage,
    batches: BatchSource,
    held_out: list[Batch],
    run: RunContext,
    start: Position,
    *,
    checkpoint: Path | None,
) -> Position:
    """Train from ``start`` to the end of the stage, and return the position at its end.

    Args:
        learner: Changed in place.
        teacher: None where no objective needs one.
        stage: Objectives, number of steps and settings.
        batches: Step n learns from batch number n.
        held_out: Batches that are measured at intervals and never learned from.
        run: What all stages of the run share.
        start: Position of the run; its step is 0 at the start of a stage.
        checkpoint: Source of the optimizer's state in the middle of a stage.

    Raises:
        TrainingError: A loss or gradient is not finite, which is told when the next record is due;
            a checkpoint cannot be written; or the user interrupts.
    """
    loop = _Loop(learner, teacher, stage, batches, held_out, run, start)
    accelerator, rhythm = run.accelerator, run.rhythm
    if checkpoint is not None:
        loop.resume(checkpoint)
    share = Share.of(stage.batch_size, accelerator, together=stage.rows_together)
    with (
        ProgressBar(stage.name, console=run.console) as progress,
        interruptible() as interrupted,
        made_ahead(batches, stage.steps, share.rows, accelerator.device) as ahead,
        telling_of_lost_processes(accelerator),
    ):
        stopping = SharedFlag(accelerator)
        if loop.position.step == 0:
            loop.measure_held_out()
        while not loop.at_end:
            loop.take_step(ahead, progress)
            if loop.at_end or loop.is_due(rhythm.checkpoint) or loop.is_due(rhythm.log):
                loop.log_steps(ahead)
            if loop.at_end or loop.is_due(rhythm.held_out):
                loop.measure_held_out()
            stop = stopping.raised(interrupted(), at_end=loop.at_end)
            if stop:
                loop.stop(ahead)
            if loop.is_due(rhythm.checkpoint) and not loop.at_end:
                loop.save()
    undistribute(learner)
    return loop.position


class _Loop:
    """The parts of `train_stage`, with the state that changes from step to step."""

    def __init__(
        self,
        learner: nn.Module,
        teacher: Teacher | None,
        stage: Stage,
        batches: BatchSource,
        held_out: list[Batch],
        run: RunContext,
        start: Position,
    ) -> None:
        self._learner, self._teacher, self._stage = learner, teacher, stage
        self._batches, self._held_out = batches, held_out
        self._run, self._accelerator = run, run.accelerator
        self._log = RunLog(run.folder / "log.jsonl")
        self._wrapped = distribute(learner, run.accelerator)
        # Dropout would only add noise to copied layers, so it is off unless the stage requires it.
        self._wrapped.train(stage.dropout)
        self._optimizer = build_optimizer(learner, stage.optimizer)
        self._rate = 0.0
        self._window = Window()
        self._flops = step_flops(learner, teacher, stage)
        self._unread, self._shown = Unread(run.accelerator.device), ""
        self.position = start

    @property
    def at_end(self) -> bool:
        """Whether all steps of the stage are done."""
        return self.position.step >= self._stage.steps

    def is_due(self, every: int) -> bool:
        """Whether an action that happens every ``every`` steps is due after this step."""
        return self.position.step % every == 0

    def resume(self, checkpoint: Path) -> None:
        """Load the state of the optimizer and of the batches."""
        load_optimizer(checkpoint, self._learner, self._optimizer)
        self._batches.load_state(load_batches(checkpoint))

    def take_step(self, ahead: Ahead, progress: ProgressBar) -> None:
        """Learn from the next batch."""
        began = time.perf_counter()
        step, stage = self.position.step, self._stage
        self._rate = learning_rate(step, stage.steps, stage.optimizer)
        set_learning_rate(self._optimizer, self._rate)
        gather_weights(self._wrapped)  # the text of some batches is generated with them
        batch = ahead.batch(step)
        taken = train_step(
            self._wrapped,
            self._teacher,
            stage,
            batch,
            self._optimizer,
            self._accelerator,
            self.position,
            self._unread.failed,
        )
        self._unread.add(taken)
        self._window.flops += self._flops.of(batch) if self._flops else 0
        self._spend(time.perf_counter() - began)
        self.position = replace(self.position, step=step + 1)
        if time.perf_counter() - self._unread.since > _SHOWN_EVERY:
            self._read()
        progress.show(step + 1, stage.steps, self._shown)

    def _spend(self, seconds: float) -> None:
        self._window.seconds += seconds
        self.position = replace(self.position, seconds=self.position.seconds + seconds)

    def _read(self) -> None:
        """Wait for the device to finish the steps so far, and read what they have found."""
        began = time.perf_counter()
        found = self._unread.read()
        self._spend(time.perf_counter() - began)
        for figures in found:
            self._window.add(figures.means, figures.tokens)
        if found:
            tokens = self.position.tokens + sum(figures.tokens for figures in found)
            self.position = replace(self.position, tokens=tokens)
            self._shown = step_facts(found[-1].means, self._window.tokens_per_second)

    def _settle(self) -> None:
        """Read all steps, and raise the error of one that was not finite.

        All processes do it after the same step, so that none waits for another that is gone.
        """
        self._read()
        self._unread.check()

    def log_steps(self, ahead: Ahead) -> None:
        """Write a record of the steps since the last one."""
        self._settle()
        spent = {
            "seconds": self.position.seconds,
            "peak_memory_bytes": peak_bytes(self._accelerator.device.type),
            "memory": held_by_parts(
                self._learner, self._teacher, self._optimizer, caches=self._batches.held_bytes()
            ),
            "trainable_parameters": trained_parameters(self._optimizer),
            "waited_share": ahead.waited / self._window.seconds,
        }
        if self._flops:
            spent["mfu"] = self._window.flops_per_second / limit(self._accelerator)
        ahead.waited = 0.0
        weights = self._stage.weights_at(self._stage.progress(self.position.step - 1))
        facts = {**self._window.facts(weights), **self._batches.facts()}
        self._write({**facts, "learning_rate": self._rate, **spent})
        self._window = Window()

    def measure_held_out(self) -> None:
        """Write a record of the objectives on held-out text, where there is any."""
        self._settle()
        if self._held_out:
            means = mean_values(
                self._wrapped, self._teacher, self._stage, self._held_out, self._accelerator
            )
            self._write({"held_out": means})

    def _write(self, facts: Mapping[str, object]) -> None:
        position = self.position
        record = {"stage": self._stage.name, "stage_number": position.stage, "step": position.step}
        record |= {"tokens": position.tokens, **facts}
        if self._accelerator.is_main_process:
            self._log.write(record)
            self._accelerator.log(flattened(record), step=position.step)

    def save(self) -> None:
        """Write a checkpoint."""
        self._settle()
        save_checkpoint(
            self._run.folder / "state",
            self.position,
            self._learner,
            self._optimizer,
            self._batches.state(),
            keep=self._run.rhythm.keep,
            write=self._accelerator.is_main_process,
        )

    def stop(self, ahead: Ahead) -> NoReturn:
        """End the run after Ctrl-C, with a checkpoint and a record of all steps before it."""
        self._settle()
        if self._window.steps:
            self.log_steps(ahead)
        self.save()
        raise InterruptedRunError(
            f"stopped at step {self.position.step} of stage {self._stage.name!r}; the checkpoint is"
            " whole. Run the same command again to resume"
        )
