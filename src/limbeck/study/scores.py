"""The scores of trainings and of the teacher, kept so that any process can report them."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from ..evaluation.seeds import TaskScore
from ..evaluation.task_files import content_of_task
from ..models.locate import fingerprint
from ..recipe.setup import Setup
from ..run.evaluate import evaluate_model
from ..run.measure_generation import positions_of_run
from ..run.measure_task import task_measures
from ..run.sources import sources_of
from ..system.device import choose_device, choose_precision
from ..system.files import kept, remembered
from .arms import ArmRun

Scores = dict[str, TaskScore]
_FILE = "scores.json"


def is_scored(run: ArmRun, folder: Path) -> bool:
    """Whether a training has been scored, at least once and in whatever way."""
    return (folder / run.place / _FILE).exists()


def known_scores(run: ArmRun, folder: Path) -> Scores | None:
    """The scores of a training; None where it has not ended, or is to be scored in another way.

    Args:
        run: A training of the study.
        folder: The study's.
    """
    place = folder / run.place
    if not is_scored(run, folder) or not (place / "student" / "config.json").exists():
        return None
    found = kept(place / _FILE, _scored_by(run.setup, str(place / "student")))
    return None if found is None else _restored(found)


def scores_of(run: ArmRun, folder: Path, console: Console) -> Scores:
    """The scores of a finished training, measured where they are not known.

    Args:
        run: A training of the study.
        folder: The study's.
        console: For progress.
    """
    place = folder / run.place
    student = str(place / "student")

    def measure() -> dict[str, Any]:
        found = _measured(run.setup, student, "student", place / "evaluation", console)
        positions_of_run(run.setup, place)  # stored in the run folder for the report
        return found

    return _restored(remembered(place / _FILE, _scored_by(run.setup, student), measure))


def known_teacher_scores(setup: Setup, folder: Path) -> Scores | None:
    """The scores of a study's teacher; None where it has not been scored, or in another way.

    Args:
        setup: Of the first training that has a teacher.
        folder: The study's.
    """
    file = folder / "teacher" / _FILE
    found = kept(file, _teacher_scored_by(setup)) if file.exists() else None
    return None if found is None else _restored(found)


def teacher_scores(setup: Setup, folder: Path, console: Console) -> Scores:
    """The scores of a study's teacher, measured where they are not known.

    Args:
        setup: Of the first training that has a teacher.
        folder: The study's.
        console: For progress.
    """
    place = folder / "teacher"

    def measure() -> dict[str, Any]:
        model = setup.models.required_teacher().name
        return _measured(setup, model, "teacher", place, console)

    return _restored(remembered(place / _FILE, _teacher_scored_by(setup), measure))


def _measured(
    setup: Setup, model: str, role: str, results: Path, console: Console
) -> dict[str, Any]:
    """The scores of a model as JSON: on the tasks of the evaluation, and on the one it learned."""
    part = setup.recipe.evaluation
    scores = evaluate_model(model, part.tasks, part, results=results, console=console, label=role)
    learned = task_measures(setup, {role: model})
    if learned and role in learned.scores:
        scores = {learned.answers.task: learned.scores[role], **scores}
    return {"scores": {name: asdict(score) for name, score in scores.items()}}


def _restored(found: Mapping[str, Any]) -> Scores:
    return {name: TaskScore.restored(score) for name, score in found["scores"].items()}


def _teacher_scored_by(setup: Setup) -> dict[str, Any]:
    return {**_protocol(setup), "sources": sources_of(setup.recipe)}


def _scored_by(setup: Setup, model: str) -> dict[str, Any]:
    return {**_protocol(setup), "model": fingerprint(model)}


def _protocol(setup: Setup) -> dict[str, Any]:
    """What decides scores beside the model: with anything else they are measured again."""
    recipe, part = setup.recipe, setup.recipe.evaluation
    precision = choose_precision(part.finetuning.precision, choose_device()).name
    return {
        "recipe": hashlib.sha256(recipe.model_dump_json(exclude={"name"}).encode()).hexdigest(),
        "tasks": [content_of_task(task, test_split=part.split) for task in part.tasks],
        "precision": precision,
    }
