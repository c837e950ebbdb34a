"""A recipe becomes a run folder: teacher and text in, student, logs and report out.

Running the same command again resumes from the last checkpoint, or measures what is still to be
measured.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from transformers import PreTrainedModel

from ..export.card import model_card
from ..export.origin import licence_warnings
from ..export.pretrained import export_student
from ..export.sentence_transformers import SentenceSettings, export_sentence_model
from ..models.sentences.attached import detach_vectors
from ..recipe.check import prepare
from ..recipe.prompts import ends_of_recipe
from ..recipe.read import keys_of
from ..recipe.schema import Recipe
from ..recipe.setup import Setup
from ..student.frozen import widen_frozen
from ..student.rounding import round_layers
from ..system.files import expanded, write_text
from ..system.locks import alone
from ..system.progress import warn
from ..teacher.contract import Teacher
from ..teacher.live import LiveTeacher
from .accelerator import build_accelerator
from .cache import teacher_elsewhere
from .card_facts import card_facts
from .claim import claim_folder
from .launched import check_processes
from .low_rank import export_adapters, finish_low_rank
from .measure import measure_run
from .train import train_student


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
    recipe: Recipe | Mapping[str, Any] | Path | str,
    output: Path | str,
    *,
    console: Console | None = None,
) -> Run:
    """Carry out a recipe; resumes from the last checkpoint where ``output`` holds one.

    Args:
        recipe: As an object, as the mapping that YAML gives, or the path of a YAML file.
        output: The run folder.
        console: For the progress bar; None is silent.

    Where a launcher has started several processes, all train, and the first one alone writes
    and measures: the others give an empty report.

    Raises:
        RecipeError: The recipe has problems, or ``output`` holds a run of another.
        LimbeckError: The run had to stop; what was checkpointed is whole.
    """
    setup = prepare(keys_of(recipe))
    folder = expanded(output)
    accelerator = build_accelerator(setup.recipe.training, folder)
    first = accelerator.is_main_process
    console = console if console and first else Console(quiet=True, markup=False)
    train_run(setup, folder, console, accelerator)
    if not first:
        return Run(folder, {})
    result = measure_run(setup, folder, console)
    card = card_facts(setup, result)
    write_text(folder / "student" / "README.md", model_card(card))
    for warning in licence_warnings([one for one in card.origins if one.license]):
        warn(console, warning)
    return Run(folder, result.to_json())


def train_run(
    setup: Setup,
    folder: Path,
    console: Console,
    accelerator: Accelerator,
    *,
    wrap: Callable[[LiveTeacher], Teacher] | None = None,
) -> None:
    """The student of a recipe in its run folder, trained where it is not there yet.

    Args:
        setup: A checked recipe.
        folder: The run folder.
        console: For the progress bar.
        accelerator: Device, precision and processes.
        wrap: Makes the live teacher one that gives its signals in another way.

    Raises:
        RecipeError: The folder holds a run of another recipe, or another command trains in it.
        LimbeckError: The run had to stop; what was checkpointed is whole.
    """
    trained = (folder / "student" / "config.json").exists()
    if not trained:
        check_processes(setup, accelerator)
    opened = nullcontext() if trained else teacher_elsewhere(setup, folder, accelerator, console)
    with opened as cached:
        claim_folder(folder, setup.recipe, write=accelerator.is_main_process)
        for warning in setup.warnings:
            warn(console, warning)
        if not trained:
            with alone(folder, "training") if accelerator.is_main_process else nullcontext():
                student = train_student(
                    setup, folder, console, accelerator, wrap=wrap, cached=cached
                )
                round_layers(student, None)  # its last stage may have computed with rounded weights
                widen_frozen(student)
                if accelerator.is_main_process:
                    _export(setup, student, folder)
    accelerator.end_training()  # from here on no process waits for another


def _export(setup: Setup, student: PreTrainedModel, folder: Path) -> None:
    """Save the student as a plain transformers folder, and its adapters beside it if wanted."""
    part = setup.recipe.student
    with_head = setup.has_trained_head or setup.models.student.head is not None
    export_adapters(setup, student, folder, with_head=with_head)
    vectors = detach_vectors(student)
    finish_low_rank(student, setup.models.student.architecture, part.low_rank)
    if vectors:
        export_sentence_model(
            student,
            setup.models.student.tokenizer,
            vectors,
            folder / "student",
            settings=SentenceSettings(max_length=setup.recipe.data.max_length),
            card=model_card(card_facts(setup)),
        )
        return
    export_student(
        student,
        setup.models.student.tokenizer,
        folder / "student",
        with_head=with_head,
        card=model_card(card_facts(setup)),
        ends=ends_of_recipe(setup.recipe, setup.models),
    )
