"""A recipe becomes a run folder: teacher and text in, student, logs and report out.

Running the same command again goes on where the run stands: from the last
checkpoint, or at what is still to be measured.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from rich.console import Console
from transformers import PreTrainedModel

from .attention import use_float32_attention
from .build import Setup, prepare
from .corpora import calibration_tokens, stage_batches, stage_held_out
from .errors import RecipeError
from .export.both import export_both, load_both
from .export.card import CardFacts, model_card
from .export.pretrained import export_student
from .files import write_text
from .measure import measure_run
from .memory import keep_freed_memory, restart_peak
from .pretrained import load_body, load_model, load_with_head
from .recipe import Recipe, dump_recipe, parse_recipe
from .student.first_embeddings import mean_of_teacher_pieces, set_embeddings
from .student.layer_copy import copy_layers
from .student.mixed_vocabulary import MixedVocabulary, reader_of_student_pieces
from .student.projections import MapSize, Projections
from .student.shape import build_student
from .teacher.contract import Teacher
from .teacher.live import LiveTeacher
from .training.checkpoint import (
    Position,
    latest_checkpoint,
    load_learner,
    read_position,
    save_checkpoint,
)
from .training.loop import Rhythm, train_stage
from .training.records import RunLog
from .training.stages import Learner, MixedLearner


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
    """Carry out a recipe; goes on by itself where ``output`` holds a part of it.

    Args:
        recipe: As an object, or as the mapping that YAML gives.
        output: The run folder.
        console: For the progress bar; None is silent.

    Raises:
        RecipeError: The recipe has faults, or ``output`` holds a run of another.
        LimbeckError: The run had to stop; what was checkpointed is whole.
    """
    raw = recipe if isinstance(recipe, dict) else recipe.model_dump(by_alias=True)
    setup = prepare(raw)
    folder = Path(output)
    console = console or Console(quiet=True)
    train_run(setup, folder, console)
    return Run(folder, measure_run(setup, folder, console))


def train_run(
    setup: Setup,
    folder: Path,
    console: Console,
    *,
    teacher: Callable[[LiveTeacher], Teacher] | None = None,
) -> None:
    """The student of a recipe in its run folder, trained where it is not there yet.

    Args:
        setup: A checked recipe.
        folder: The run folder.
        console: For the progress bar.
        teacher: Makes the live teacher one that gives its signals in another way.

    Raises:
        RecipeError: The folder holds a run of another recipe.
        LimbeckError: The run had to stop; what was checkpointed is whole.
    """
    _claim(folder, setup.recipe)
    for warning in setup.warnings:
        console.print(f"[yellow]warning:[/yellow] {warning}")
    if not (folder / "student" / "config.json").exists():
        _train(setup, folder, console, teacher)


def _train(
    setup: Setup,
    folder: Path,
    console: Console,
    wrap: Callable[[LiveTeacher], Teacher] | None,
) -> None:
    part = setup.recipe.training
    keep_freed_memory()
    accelerator = build_accelerator(setup.recipe, folder)
    accelerator.init_trackers(setup.recipe.name)
    console.print("reading and tokenizing the text")
    batches = [stage_batches(setup, number) for number in range(len(setup.stages))]
    student, live = build_models(setup, accelerator)
    teacher = wrap(live) if wrap and live else live
    checkpoint = latest_checkpoint(folder / "state")
    position = read_position(checkpoint) if checkpoint else Position(0, 0, 0, 0.0)
    if checkpoint:
        load_learner(checkpoint, build_learner(setup, student, 0), student_only=True)
    RunLog(folder / "log.jsonl").cut_after(position)
    restart_peak()
    rhythm = Rhythm(part.log_every, part.held_out_every, part.checkpoint_every)
    for number in range(position.stage, len(setup.stages)):
        stage = setup.stages[number]
        learner = build_learner(setup, student, number)
        resumed = checkpoint if position.step > 0 else None
        if resumed:
            load_learner(resumed, learner, student_only=False)
        torch.manual_seed(setup.recipe.seed + number)  # a checkpoint's own state replaces it
        needs_teacher = stage.teacher_needs().anything
        if needs_teacher and teacher is None:
            teacher = _live(setup, _teacher_after_mixed(setup, folder), accelerator)
        position = train_stage(
            learner,
            teacher if needs_teacher else None,
            stage,
            batches[number],
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
            export_both(learner.mixed, setup.models.teacher_tokenizer, folder)
            if setup.models.copied_layers:
                _copy_layers(setup, student, _teacher_after_mixed(setup, folder))
        if accelerator.is_main_process:
            save_checkpoint(folder / "state", position, learner, None)
    accelerator.end_training()
    if accelerator.is_main_process:
        with_head = setup.has_trained_head
        card = model_card(_card_facts(setup, position))
        tokenizer = setup.models.tokenizer
        export_student(student, tokenizer, folder / "student", with_head=with_head, card=card)


def build_accelerator(recipe: Recipe, folder: Path | str) -> Accelerator:
    """Device, precision, processes and trackers."""
    on_cpu = recipe.training.device == "cpu" or not torch.cuda.is_available()
    return Accelerator(
        cpu=on_cpu,
        mixed_precision="bf16" if recipe.training.precision == "bfloat16" else "no",
        log_with=list(recipe.training.trackers) or None,
        project_dir=str(folder),
        # The last layer's output is not on the way of every objective.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def build_models(
    setup: Setup, accelerator: Accelerator, *, copy: bool = True
) -> tuple[PreTrainedModel, LiveTeacher | None]:
    """The student with its first weights, and the teacher where anything needs one.

    Args:
        setup: A checked recipe.
        accelerator: Tells the device.
        copy: False leaves the student's first weights random, which only a probe may want.
    """
    recipe, models = setup.recipe, setup.models
    teacher = None
    wanted = any(stage.teacher_needs().anything for stage in setup.stages)
    wanted = (wanted or models.copied_layers is not None) and not models.two_vocabularies
    if recipe.teacher and models.teacher_anatomy and wanted:
        asks_logits = any(stage.teacher_needs().predictions for stage in setup.stages)
        model = load_model(
            recipe.teacher.model,
            anatomy=models.teacher_anatomy,
            with_head=True if asks_logits else None,
        )
        teacher = _live(setup, model, accelerator)
    student = build_student(models.student_config, seed=recipe.seed, causal=models.anatomy.causal)
    if copy and teacher:
        _copy_layers(setup, student, teacher.model)
    if copy and recipe.student.embeddings == "mean" and recipe.teacher and models.teacher_tokenizer:
        table: Any = load_body(recipe.teacher.model).get_input_embeddings()
        pieces = models.teacher_tokenizer, models.tokenizer
        set_embeddings(student, mean_of_teacher_pieces(table.weight.detach(), *pieces))
    if _attends_in_float32(setup, accelerator):
        use_float32_attention(student)
    return student, teacher


def _live(setup: Setup, model: PreTrainedModel, accelerator: Accelerator) -> LiveTeacher | None:
    if setup.models.teacher_anatomy is None:
        return None
    if _attends_in_float32(setup, accelerator):
        use_float32_attention(model)
    return LiveTeacher(model.to(accelerator.device), setup.models.teacher_anatomy)


def _attends_in_float32(setup: Setup, accelerator: Accelerator) -> bool:
    bfloat16 = setup.recipe.training.precision == "bfloat16"
    return bfloat16 and accelerator.device.type == "cpu"


def build_learner(setup: Setup, student: PreTrainedModel, number: int) -> Learner | MixedLearner:
    """The student with what is trained beside it in one stage."""
    stage = setup.stages[number]
    if stage.mixed is not None:
        return MixedLearner(student, _mixed_vocabulary(setup, student))
    sizes: dict[str, MapSize] = {}
    for objective in stage.objectives.values():
        sizes |= objective.projection_sizes(setup.models.student, setup.models.teacher)
    projections = Projections(sizes, seed=setup.recipe.seed + number)
    student.requires_grad_(True)
    if stage.head_only:
        student.base_model.requires_grad_(False)
    return Learner(student, projections, setup.models.anatomy, stage.objectives)


def _mixed_vocabulary(setup: Setup, student: PreTrainedModel) -> MixedVocabulary:
    teacher, anatomy = setup.recipe.teacher, setup.models.teacher_anatomy
    if teacher is None or anatomy is None:
        raise RecipeError("a mixed stage needs a teacher; name one")
    model = load_with_head(teacher.model, anatomy=anatomy, seed=setup.recipe.seed)
    if setup.recipe.training.precision == "bfloat16" and not torch.cuda.is_available():
        use_float32_attention(model)
    return MixedVocabulary(model, student, anatomy, seed=setup.recipe.seed)


def _teacher_after_mixed(setup: Setup, folder: Path) -> PreTrainedModel:
    """The teacher that a mixed stage has left, as a reader of the student's pieces."""
    anatomy = setup.models.teacher_anatomy
    if anatomy is None:
        raise RecipeError("a mixed stage needs a teacher; name one")
    both, first = load_both(folder, anatomy=anatomy)
    return reader_of_student_pieces(both, anatomy, student_from=first)


def _copy_layers(setup: Setup, student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    models, part = setup.models, setup.recipe.student.copy_from_teacher
    if models.copied_layers and part:
        copy_layers(
            student,
            teacher,
            models.anatomy,
            layers=models.copied_layers,
            width=part.width,
            calibration=[calibration_tokens(setup)],
        )


def _claim(folder: Path, recipe: Recipe) -> None:
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
    write_text(file, dump_recipe(recipe))


def _card_facts(setup: Setup, position: Position) -> CardFacts:
    recipe = setup.recipe
    stages = [
        f"{stage.name}: {', '.join(stage.objectives)}, {stage.steps} steps of"
        f" {stage.batch_size} x {recipe.data.length} pieces"
        for stage in setup.stages
    ]
    return CardFacts(
        name=recipe.name,
        teacher=recipe.teacher.model if recipe.teacher else None,
        student=setup.models.student,
        architecture=setup.models.student_config.model_type,
        stages=stages,
        text=[Path(source.path).name for source in recipe.data.text],
        with_head=setup.has_trained_head,
    )
