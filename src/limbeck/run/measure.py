"""What a finished run is measured on, and the report made of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from .. import __version__
from ..evaluation.cost import SENTENCE_LENGTH
from ..evaluation.seeds import TaskScore
from ..models.load import load_config
from ..models.locate import model_of_run
from ..models.low_rank_layers import low_rank_ranks
from ..recipe.low_rank import low_rank_notes
from ..recipe.setup import Setup
from ..reports.report import ROLES, write_report
from ..training.records import RunLog
from .costs import Costed, costs_by_size, students_sentence
from .evaluate import evaluate_model, evaluation_notes
from .measure_generation import positions_of_run
from .measure_text import text_measures
from .measure_training import held_out_losses, training_facts
from .measure_vocabularies import neighbours_of_run, readings_of_run
from .prompt_batches import prompt_notes
from .text_counts import counts_of_two_tokenizations, spelled_notes


def measure_run(setup: Setup, folder: Path, console: Console) -> dict[str, Any]:
    """Measure what the recipe names, write ``report/`` and return the report.

    What was measured before for the same weights and settings is not measured
    again, so an interrupted evaluation resumes.
    """
    recipe = setup.recipe
    part = recipe.evaluation
    models = _compared(setup, folder)
    records = RunLog(folder / "log.jsonl").records()
    report: dict[str, Any] = {
        "name": recipe.name,
        "limbeck_version": __version__,
        "teacher": None,
        "no_distillation": None,
    }
    kept = folder / "evaluation"
    costs = costs_by_size(
        {
            role: Costed(
                model,
                SENTENCE_LENGTH if role == "teacher" else students_sentence(setup),
                kept / f"cost.{role}.json",
            )
            for role, model in models.items()
        },
        timed=part.cost,
    )
    for role, model in models.items():
        facts = {"name": Path(model).name if role != "teacher" else _teacher_name(setup)}
        report[role] = facts | costs[role]
    report["quality"] = {
        task: _quality(scores) for task, scores in _scores(setup, models, kept, console).items()
    }
    report["training"] = training_facts(records)
    report["held_out"] = held_out_losses(setup, records)
    report["held_out_text"] = text_measures(setup, folder)
    report["neighbours"] = neighbours_of_run(setup, folder)
    report["two_readings"] = readings_of_run(setup, folder)
    report["cuts"] = counts_of_two_tokenizations(setup)
    report["by_position"] = positions_of_run(setup, folder)
    ranks = low_rank_ranks(load_config(str(folder / "student")))
    factors = low_rank_notes(setup.models, setup.recipe.student.low_rank, ranks)
    report["notes"] = [*_notes(setup), *spelled_notes(setup), *prompt_notes(setup), *factors]
    write_report(report, records, folder / "report")
    return report


def _compared(setup: Setup, folder: Path) -> dict[str, str]:
    """Model of every role that is to be measured."""
    recipe = setup.recipe
    models = {"student": str(folder / "student")}
    if recipe.teacher and recipe.evaluation.teacher:
        models["teacher"] = recipe.teacher.model
    if control := recipe.evaluation.baseline:
        models["no_distillation"] = model_of_run(control)
    return models


def _scores(
    setup: Setup, models: Mapping[str, str], kept: Path, console: Console
) -> dict[str, dict[str, TaskScore]]:
    part = setup.recipe.evaluation
    by_task: dict[str, dict[str, TaskScore]] = {}
    for role, model in models.items():
        scores = evaluate_model(model, part.tasks, part, results=kept, console=console, label=role)
        for task, score in scores.items():
            by_task.setdefault(task, {})[role] = score
    return by_task


def _quality(scores: Mapping[str, TaskScore]) -> dict[str, Any]:
    some = next(iter(scores.values()))
    return {
        "metric": some.metric,
        "test_split": some.test_split,
        "training_rows": some.training_rows,
        "test_rows": some.test_rows,
        **{role: scores[role].mean if role in scores else None for role in ROLES},
        "seeds": {role: score.values for role, score in scores.items()},
        "spread": {role: score.deviation for role, score in scores.items()},
        "metrics": {role: score.means() for role, score in scores.items()},
    }


def _teacher_name(setup: Setup) -> str:
    return setup.recipe.teacher.model if setup.recipe.teacher else ""


def _notes(setup: Setup) -> list[str]:
    return [*setup.warnings, *evaluation_notes(setup.recipe.evaluation)]
