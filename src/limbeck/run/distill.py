"""A recipe becomes a run folder: teacher and text in, student, logs and report out.

Running the same command again goes on where the run stands: from the last
checkpoint, or at what is still to be measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator
from rich.console import Console

from ..errors import RecipeError
from ..export.both import export_both
from ..export.card import CardFacts, model_card
from ..export.pretrained import export_student
from ..recipe.check import Setup, prepare
from ..recipe.low_rank import export_additions, finish_low_rank
from ..recipe.parse import dump_recipe, parse_recipe
from ..recipe.prompts import ends_of_recipe
from ..recipe.schema import Recipe
from ..reports.report import quality_lines
from ..system.device import describe_device
from ..system.files import write_text
from ..system.memory import keep_freed_memory, restart_peak
from ..teacher.contract import Teacher
from ..teacher.live import LiveTeacher
from ..tokenization.prompts import PromptBatches
from ..training.checkpoint import (
    Position,
    latest_checkpoint,
    load_learner,
    read_position,
    save_checkpoint,
)
from ..training.fitted_maps import fit_maps
from ..training.loop import Rhythm, train_stage
from ..training.records import RunLog
from ..training.stages import Learner, MixedLearner
from .batches import stage_batches, stage_held_out
from .cache import open_cache
from .measure import measure_run
from .models import (
    build_accelerator,
    build_learner,
    build_models,
    copy_teacher_layers,
    live_teacher,
    teacher_after_mixed,
)
from .prompt_batches import written_batches
from .sources import check_sources


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    report: dict[str, Any]

    @property
    def student(self) -> Path:
        """The student's transformers folder."""
        return self.folder / "student"


def distill(
    recipe: Recipe | dict[str, Any], output: Path | str, *, console: Console | None = None
) -> Run:
    """Carry out a recipe; goes on by itself where ``logits`` holds a part of it.

    Args:
        recipe: As an object, or as the mapping that YAML gives.
        output: The run folder.
        console: For the progress bar; None is silent.

    Where a launcher has started several processes, all train, and the first one alone writes
    and measures: the others give an empty report.

    Raises:
        RecipeError: The recipe has problems, or ``logits`` holds a run of another.
        LimbeckError: The run had to stop; what was checkpointed is whole.
    """
    raw = recipe if isinstance(recipe, dict) else recipe.model_dump(by_alias=True)
    setup = prepare(raw)
    folder = Path(output)
    accelerator = build_accelerator(setup.recipe, folder)
    first = accelerator.is_main_process
    console = console if console and first else Console(quiet=True)
    train_run(setup, folder, console, accelerator)
    if not first:
        return Run(folder, {})
    report = measure_run(setup, folder, console)
    card = replace(_card_facts(setup), quality=quality_lines(report))
    write_text(folder / "student" / "README.md", model_card(card))
    return Run(folder, report)


def train_run(
    setup: Setup,
    folder: Path,
    console: Console,
    accelerator: Accelerator,
    *,
    teacher: Callable[[LiveTeacher], Teacher] | None = None,
) -> None:
    """The student of a recipe in its run folder, trained where it is not there yet.

    Args:
        setup: A checked recipe.
        folder: The run folder.
        console: For the progress bar.
        accelerator: Device, precision and processes.
        teacher: Makes the live teacher one that gives its signals in another way.

    Raises:
        RecipeError: The folder holds a run of another recipe.
        LimbeckError: The run had to stop; what was checkpointed is whole.
    """
    trained = (folder / "student" / "config.json").exists()
    kept = setup.recipe.teacher.cache if setup.recipe.teacher else None
    cached = open_cache(setup, accelerator.device) if kept and not trained else None
    _claim(folder, setup.recipe, write=accelerator.is_main_process)
    for warning in setup.warnings:
        console.print(f"[yellow]warning:[/yellow] {warning}")
    if not trained:
        _train(setup, folder, console, accelerator, teacher, cached)
    accelerator.end_training()  # from here on no process waits for another


def _train(
    setup: Setup,
    folder: Path,
    console: Console,
    accelerator: Accelerator,
    wrap: Callable[[LiveTeacher], Teacher] | None,
    cached: Teacher | None,
) -> None:
    part = setup.recipe.training
    keep_freed_memory()
    accelerator.init_trackers(setup.recipe.name)
    console.print("reading and tokenizing the text")
    batches = [stage_batches(setup, number) for number in range(len(setup.stages))]
    student, live = build_models(setup, accelerator)
    teacher: Teacher | None = cached or (wrap(live) if wrap and live else live)
    checkpoint, damaged = latest_checkpoint(folder / "state")
    for problem in damaged:
        console.print(f"[yellow]warning:[/yellow] {problem}", highlight=False)
    position = read_position(checkpoint) if checkpoint else Position(0, 0, 0, 0.0)
    if checkpoint:
        load_learner(checkpoint, build_learner(setup, student, 0), student_only=True)
    writes = accelerator.is_main_process
    if writes:
        RunLog(folder / "log.jsonl").cut_after(position)
        _say_machine(setup, folder, position, console)
    restart_peak()
    rhythm = Rhythm(part.logging_steps, part.eval_steps, part.save_steps, part.save_total_limit)
    for number in range(position.stage, len(setup.stages)):
        stage = setup.stages[number]
        learner = build_learner(setup, student, number)
        resumed = checkpoint if position.step > 0 else None
        if resumed:
            load_learner(resumed, learner, student_only=False)
        needs_teacher = stage.teacher_needs().anything
        if needs_teacher and teacher is None:
            teacher = live_teacher(setup, teacher_after_mixed(setup, folder), accelerator)
        source = batches[number]
        if isinstance(learner, Learner) and teacher and needs_teacher and not resumed:
            fit_maps(learner, teacher, stage, source, accelerator)
        if isinstance(source, PromptBatches):
            writer = live.model if live else None
            source = written_batches(setup, number, source, student, writer, accelerator)
        position = train_stage(
            learner,
            teacher if needs_teacher else None,
            stage,
            source,
            stage_held_out(setup, number),
            accelerator=accelerator,
            start=position,
            checkpoint=resumed,
            run=folder,
            rhythm=rhythm,
            console=console,
        )
        position = Position(number + 1, 0, position.tokens, position.seconds)
        if isinstance(learner, MixedLearner) and setup.models.teacher_tokenizer is not None:
            if writes:
                export_both(learner.mixed, setup.models.teacher_tokenizer, folder)
            accelerator.wait_for_everyone()
            if setup.models.copied_layers:
                copy_teacher_layers(setup, student, teacher_after_mixed(setup, folder))
        save_checkpoint(folder / "state", position, learner, None, keep=rhythm.keep, write=writes)
    if writes:
        with_head = setup.has_trained_head
        card = model_card(_card_facts(setup))
        tokenizer = setup.models.tokenizer
        export_additions(student, setup.recipe.student, folder, with_head=with_head)
        finish_low_rank(student, setup.models.architecture, setup.recipe.student.low_rank)
        ends = ends_of_recipe(setup.recipe, setup.models)
        export_student(
            student, tokenizer, folder / "student", with_head=with_head, card=card, ends=ends
        )


def _say_machine(setup: Setup, folder: Path, position: Position, console: Console) -> None:
    """Tell where the steps to come are computed, and record it where that is new to the run."""
    log = RunLog(folder / "log.jsonl")
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
        log.write({**place, "step": position.step, "tokens": position.tokens, **machine})


def _claim(folder: Path, recipe: Recipe, *, write: bool) -> None:
    """Write the resolved recipe, or see that the folder holds a run of the same one."""
    file = folder / "recipe.yaml"
    if file.exists():
        before = yaml.safe_load(file.read_text(encoding="utf-8"))
        # An older version's recipe lacks fields that have come since: they had their defaults.
        known, _ = parse_recipe(before) if isinstance(before, dict) else (None, [])
        before = yaml.safe_load(dump_recipe(known)) if known else before or {}
        now = yaml.safe_load(dump_recipe(recipe))
        different = [key for key in now if key != "evaluation" and now[key] != before.get(key)]
        if different:
            raise RecipeError(
                f"{folder} holds a run of another recipe (different: {', '.join(different)}); use"
                " another folder, or the recipe.yaml in it to go on"
            )
    check_sources(recipe, folder, write=write)
    if write:
        write_text(file, dump_recipe(recipe))


def _card_facts(setup: Setup) -> CardFacts:
    recipe = setup.recipe
    stages = [
        f"{stage.name}: {', '.join(stage.objectives)}, {stage.steps} steps of"
        f" {stage.batch_size} x {recipe.data.max_length} tokens"
        for stage in setup.stages
    ]
    low_rank = recipe.student.low_rank
    return CardFacts(
        name=recipe.name,
        teacher=recipe.teacher.model if recipe.teacher else None,
        begun_from=recipe.student.model,
        student=setup.models.student,
        model_type=setup.models.student_config.model_type,
        stages=stages,
        text=[Path(p).name for p in (*(s.path for s in recipe.data.text), *recipe.data.prompts)],
        with_head=setup.has_trained_head,
        factored=low_rank is not None
        and low_rank.kind == "factorize"
        and low_rank.export != "dense",
    )
