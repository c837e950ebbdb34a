"""What a finished run is measured on, and the report made of it."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from .. import __version__
from ..evaluation.cost import SENTENCE_LENGTH
from ..evaluation.seeds import TaskScore
from ..models.load import load_config
from ..models.locate import model_of_run
from ..models.low_rank_layers import low_rank_ranks
from ..recipe.low_rank import low_rank_notes
from ..recipe.setup import Setup
from ..reports.finetuning import teacher_warnings
from ..reports.model_results import ModelResult
from ..reports.report import write_report
from ..reports.run_results import RunResult, TaskQuality
from ..system.progress import warn
from ..training.records import RunLog
from .costs import Costed, costs_by_size, students_sentence, teacher_cost
from .evaluate import evaluate_model, evaluation_notes
from .generated_files import origin_note
from .measure_generation import positions_of_run
from .measure_task import task_measures
from .measure_text import text_measures
from .measure_training import held_out_losses, training_facts
from .measure_vocabularies import counts_of_run, neighbours_of_run, readings_of_run
from .prompt_batches import prompt_notes
from .text_counts import spelled_notes
from .vllm import vllm_notes


def measure_run(setup: Setup, folder: Path, console: Console) -> RunResult:
    """Measure what the recipe names, write ``report/`` and return what it shows.

    What was measured before for the same weights and settings is not measured
    again, so an interrupted evaluation resumes.
    """
    models = _compared(setup, folder)
    records = RunLog(folder / "log.jsonl").records()
    kept = folder / "evaluation"
    costs = _costs(setup, models, kept)
    scores = _scores(setup, models, kept, console)
    console.print("measuring on held-out text")  # minutes, of a large model on a processor
    learned = task_measures(setup, models)
    if learned:
        scores = {learned.answers.task: learned.scores, **scores}
    result = RunResult(
        name=setup.recipe.name,
        limbeck_version=__version__,
        teacher=costs.get("teacher"),
        no_distillation=costs.get("no_distillation"),
        student=costs["student"],
        quality={task: _quality(by_role) for task, by_role in scores.items()},
        training=training_facts(records),
        held_out=held_out_losses(setup, records),
        held_out_text=text_measures(setup, folder),
        neighbours=neighbours_of_run(setup, folder),
        two_readings=readings_of_run(setup, folder),
        token_counts=counts_of_run(setup),
        by_position=positions_of_run(setup, folder),
        task_answers=learned.answers if learned else None,
        notes=[*([learned.answers.verdict] if learned else []), *_notes(setup, folder)],
    )
    write_report(result, records, folder / "report")
    for warning in teacher_warnings(result):
        warn(console, warning)
    return result


def _compared(setup: Setup, folder: Path) -> dict[str, str]:
    """Model of every role that is to be measured."""
    recipe = setup.recipe
    models = {"student": str(folder / "student")}
    # The weights of a teacher on a server need not be here.
    if recipe.teacher and recipe.server is None and recipe.evaluation.teacher:
        models["teacher"] = recipe.teacher.model
    if control := recipe.evaluation.baseline:
        models["no_distillation"] = model_of_run(control)
    return models


def _costs(setup: Setup, models: Mapping[str, str], kept: Path) -> dict[str, ModelResult]:
    """What the model of every role costs."""
    costed = {
        role: Costed(
            model,
            SENTENCE_LENGTH if role == "teacher" else students_sentence(setup),
            kept / f"cost.{role}.json",
        )
        for role, model in models.items()
    }
    timed = setup.recipe.evaluation.cost
    found = costs_by_size(costed, timed=timed)
    names = {
        role: model if role == "teacher" else Path(model).name for role, model in models.items()
    }
    if "teacher" in models and setup.models.ensemble:
        members = setup.models.teacher_names
        found["teacher"] = teacher_cost(members, costed["teacher"].kept, timed=timed)
        names["teacher"] = " + ".join(members)
    return {
        role: ModelResult.from_json({"name": names[role], **cost}) for role, cost in found.items()
    }


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


def _quality(scores: Mapping[str, TaskScore]) -> TaskQuality:
    some = next(iter(scores.values()))
    means = {role: score.mean for role, score in scores.items()}
    return TaskQuality(
        metric=some.metric,
        test_split=some.test_split,
        training_rows=some.training_rows,
        test_rows=some.test_rows,
        teacher=means.get("teacher"),
        student=means.get("student"),
        no_distillation=means.get("no_distillation"),
        seeds={role: score.values for role, score in scores.items()},
        spread={role: score.deviation for role, score in scores.items()},
        metrics={role: score.means() for role, score in scores.items()},
        search={role: score.search for role, score in scores.items() if score.search},
    )


def _notes(setup: Setup, folder: Path) -> list[str]:
    ranks = low_rank_ranks(load_config(str(folder / "student")))
    return [
        *setup.warnings,
        *_server_notes(setup),
        *vllm_notes(setup),
        *_answer_notes(setup),
        *evaluation_notes(setup.recipe.evaluation),
        *spelled_notes(setup),
        *prompt_notes(setup),
        *low_rank_notes(setup.models, setup.recipe.student.low_rank, ranks),
    ]


def _server_notes(setup: Setup) -> list[str]:
    """That the teacher was on a server, which is not measured."""
    teacher = setup.recipe.teacher
    if teacher is None or teacher.server is None:
        return []
    named = f" as {teacher.server.model}" if teacher.server.model else ""
    return [
        f"the teacher, {teacher.model}, was served at {teacher.server.url}{named}, which gave its"
        f" {teacher.server.top_k} most likely tokens at each place; it is not measured here"
    ]


def _answer_notes(setup: Setup) -> list[str]:
    """Which prompts have the answers of a server."""
    places = [Path(place) for place in setup.recipe.data.prompts if isinstance(place, str)]
    return [note for note in map(origin_note, places) if note]
