"""The student of a recipe, trained stage by stage in its run folder."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console
from transformers import PreTrainedModel

from ..export.both import export_both
from ..models.compiled import compiling
from ..recipe.setup import Setup
from ..system.device import describe_device, has_triton
from ..system.linux import keep_freed_memory
from ..system.memory import held_bytes, restart_peak
from ..system.progress import warn
from ..teacher.contract import Teacher
from ..teacher.live import LiveTeacher
from ..tokenization.batching import BatchSource
from ..tokenization.prompts import PromptBatches
from ..training.checkpoint import (
    Position,
    latest_checkpoint,
    load_learner,
    read_position,
    save_checkpoint,
)
from ..training.fitted_maps import fit_maps
from ..training.flops import limit
from ..training.learner import Learner, MixedLearner
from ..training.loop import train_stage
from ..training.processes import keeps_shards
from ..training.records import RunLog
from ..training.rhythm import Rhythm, RunContext
from ..training.stage import Stage
from .batches import stage_batches, stage_held_out
from .learner import build_learner
from .models import build_models, copy_teacher_layers
from .out_of_memory import telling_what_is_largest
from .prompt_batches import generated_batches
from .teacher import live_teacher, teacher_after_mixed
from .vllm import student_on_vllm

_WORTH_COMPILING = 1000  # steps; compiling takes up to half a minute


def train_student(
    setup: Setup,
    folder: Path,
    console: Console,
    accelerator: Accelerator,
    *,
    wrap: Callable[[LiveTeacher], Teacher] | None,
    cached: Teacher | None,
) -> PreTrainedModel:
    """Train every stage that is left, from the last checkpoint on.

    Args:
        setup: A checked recipe.
        folder: The run folder.
        console: For the progress bar.
        accelerator: Device, precision and processes.
        wrap: Makes the live teacher one that gives its signals in another way.
        cached: The teacher, where its signals lie on disk.
    """
    keep_freed_memory()
    accelerator.init_trackers(setup.recipe.name)
    console.print("reading and tokenizing the text")
    batches = [stage_batches(setup, number) for number in range(len(setup.stages))]
    held_before = held_bytes(accelerator.device.type)
    student, live = build_models(setup, accelerator)
    teacher: Teacher | None = cached or (wrap(live) if wrap and live else live)
    checkpoint, position = _resumed(setup, folder, student, console)
    if accelerator.is_main_process:
        _say_machine(setup, folder, position, held_before, console)
    limit(accelerator)  # measured here, so that its matrices are not in the peak of the training
    restart_peak()
    run = RunContext(folder, accelerator, console, _rhythm(setup))
    for number in range(position.stage, len(setup.stages)):
        stage = setup.stages[number]
        resumed = checkpoint if position.step > 0 else None
        learner = _learner(setup, student, number, resumed)
        taught = stage.teacher_needs().anything
        teacher = teacher or (_after_mixed(setup, folder, accelerator) if taught else None)
        if isinstance(learner, Learner) and teacher and taught and not resumed:
            fit_maps(learner, teacher, stage, batches[number], accelerator)
        teaching = teacher if taught else None
        with (
            _source(setup, number, batches[number], student, live, run) as source,
            _compiling(setup, stage, run),
            telling_what_is_largest(setup, number, learner, teaching, source, held_before),
        ):
            held_out = stage_held_out(setup, number)
            position = train_stage(
                learner, teaching, stage, source, held_out, run, position, checkpoint=resumed
            )
        position = Position(number + 1, 0, position.tokens, position.seconds)
        if isinstance(learner, MixedLearner):
            _leave_mixed(setup, learner, student, folder, accelerator)
        main = accelerator.is_main_process
        save_checkpoint(folder / "state", position, learner, None, keep=run.rhythm.keep, write=main)
    return student


def _compiling(setup: Setup, stage: Stage, run: RunContext) -> AbstractContextManager[None]:
    """The context of a stage, in which its layers and losses are compiled where that is wanted."""
    compiles = _compiles(setup, stage, run.accelerator)
    if compiles and run.accelerator.is_main_process:
        run.console.print("layers and losses are compiled in the first steps")
    return compiling(compiles)


def _compiles(setup: Setup, stage: Stage, accelerator: Accelerator) -> bool:
    """Whether the forwards of a stage are compiled; sharded ones have never been."""
    asked = setup.recipe.training.torch_compile
    if asked != "auto":
        return asked
    on_gpu = setup.device.type == "cuda" and has_triton()
    return on_gpu and stage.steps >= _WORTH_COMPILING and not keeps_shards(accelerator)


def _after_mixed(setup: Setup, folder: Path, accelerator: Accelerator) -> LiveTeacher:
    """The teacher that a mixed stage has left, beside the student."""
    after = teacher_after_mixed(setup.models.required_teacher(), folder)
    return live_teacher(setup, after, accelerator)


def _rhythm(setup: Setup) -> Rhythm:
    part = setup.recipe.training
    return Rhythm(part.logging_steps, part.eval_steps, part.save_steps, part.save_total_limit)


def _resumed(
    setup: Setup, folder: Path, student: PreTrainedModel, console: Console
) -> tuple[Path | None, Position]:
    """The last whole checkpoint, loaded into the student, and where the run stands."""
    checkpoint, damaged = latest_checkpoint(folder / "state")
    for problem in damaged:
        warn(console, problem)
    if checkpoint is None:
        return None, Position(0, 0, 0, 0.0)
    load_learner(checkpoint, build_learner(setup, student, 0), student_only=True)
    return checkpoint, read_position(checkpoint)


def _learner(
    setup: Setup, student: PreTrainedModel, number: int, checkpoint: Path | None
) -> Learner | MixedLearner:
    """What a stage trains, as the checkpoint in the middle of the stage has it."""
    learner = build_learner(setup, student, number)
    if checkpoint:
        load_learner(checkpoint, learner, student_only=False)
    return learner


@contextmanager
def _source(
    setup: Setup,
    number: int,
    batches: BatchSource,
    student: PreTrainedModel,
    live: LiveTeacher | None,
    run: RunContext,
) -> Iterator[BatchSource]:
    """The batches of a stage, or those that the models generate from its prompts, here or there."""
    if not isinstance(batches, PromptBatches):
        yield batches
        return
    teacher = live.model if live else None
    with student_on_vllm(setup, number, student, run) as vllm:
        yield generated_batches(setup, number, batches, student, teacher, run.accelerator, vllm)


def _leave_mixed(
    setup: Setup,
    learner: MixedLearner,
    student: PreTrainedModel,
    folder: Path,
    accelerator: Accelerator,
) -> None:
    """Keep the teacher of both vocabularies, and start the student from its layers."""
    teacher = setup.models.required_teacher()
    if accelerator.is_main_process:
        export_both(learner.mixed, teacher.tokenizer, folder)
    accelerator.wait_for_everyone()
    if setup.models.copied_layers:
        copy_teacher_layers(setup, student, teacher_after_mixed(teacher, folder))


def _say_machine(
    setup: Setup, folder: Path, position: Position, held_before: int | None, console: Console
) -> None:
    """Tell where the steps to come are computed, and record it where that is new to the run.

    Records of later steps are dropped: the run resumes before them.

    Args:
        setup: A checked recipe.
        folder: The run folder.
        position: Where the run stands.
        held_before: Bytes that the process held before its models were loaded.
        console: Tells it.
    """
    log = RunLog(folder / "log.jsonl")
    log.drop_after(position)
    machine = {
        "device": describe_device(setup.device),
        "precision": setup.precision.name,
        "precision_reason": setup.precision.reason,
    }
    console.print(
        f"{machine['precision']} on {machine['device']}: {setup.precision.reason}", highlight=False
    )
    before = log.machine() or {}
    if any(before.get(name) != value for name, value in machine.items()):
        number = min(position.stage, len(setup.stages) - 1)  # all may be done but the export
        place = {"stage": setup.stages[number].name, "stage_number": number}
        where = {**place, "step": position.step, "tokens": position.tokens}
        log.write({**where, **machine, "held_before_bytes": held_before})
