"""What a study has found so far: every arm's scores, costs and difference from the control."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console

from .. import __version__
from ..evaluation.bootstrap import draw_rows, redrawn_scores
from ..evaluation.cost import model_size
from ..evaluation.finetune import SeedScore
from ..evaluation.intervals import difference
from ..evaluation.seeds import TaskScore
from ..evaluation.tasks import Task, load_task, subsample
from ..recipe.schema import EvaluationPart
from ..run.costs import Costed, costs_by_size, kept_cost, students_sentence
from ..run.measure import evaluate_model, evaluation_notes, training_facts
from ..run.measure_generation import positions_of_run
from ..training.records import RunLog
from .arms import ArmRun, EqualTime, Study

Scores = dict[str, TaskScore]


def study_report(
    study: Study,
    found: Sequence[tuple[ArmRun, Scores]],
    part: EvaluationPart,
    folder: Path,
    console: Console,
    *,
    timed: bool,
) -> dict[str, Any]:
    """The report of a study.

    Args:
        study: As it was read.
        found: The arms that are done, with their scores.
        part: How all are measured.
        folder: The study's.
        console: For the teacher's progress.
        timed: Whether milliseconds and memory are measured too, or sizes alone.
    """
    tasks = [_task(location, part) for location in part.tasks]
    drawn = {t.name: draw_rows(len(t.test), draws=study.draws, seed=0) for t in tasks}
    report: dict[str, Any] = {
        "name": study.name,
        "limbeck_version": __version__,
        "command": f"limbeck compare {folder}/study.yaml -o {folder}",
        "again": f"limbeck distill {folder}/RUN/recipe.yaml -o ANOTHER_FOLDER",
        "control": study.control,
        "trainings": study.seeds,
        "fine_tunings": part.seeds,
        "teacher": None,
        "students": {},
        "rows": [],
        "notes": _notes(study, found, part),
    }
    teacher = next((t for run, _ in found if (t := run.setup.recipe.teacher)), None)
    if teacher and part.teacher:
        scores = evaluate_model(
            teacher.model,
            part.tasks,
            part,
            results=folder / "teacher",
            console=console,
            label="teacher",
        )
        report["teacher"] = _measured({name: [score] for name, score in scores.items()})
        report["teacher"] |= {"name": teacher.model}
        kept = folder / "teacher" / "cost.json"
        cost = kept_cost(teacher.model, kept) if timed else model_size(teacher.model)
        report["teacher"] |= {"cost": cost}
    for student in study.students:
        mine = [(run, scores) for run, scores in found if run.student == student]
        if not mine:
            continue
        costs = _costs([run for run, _ in mine], folder, timed=timed)
        report["students"][student] = costs[mine[0][0].arm]
        of_arm = {
            arm: {
                task.name: [scores[task.name] for run, scores in mine if run.arm == arm]
                for task in tasks
            }
            for arm in dict.fromkeys(run.arm for run, _ in mine)
        }
        redrawn = {
            arm: {
                task.name: redrawn_scores(
                    task,
                    _by_seed(study, [run for run, _ in mine if run.arm == arm], scores[task.name]),
                    drawn[task.name],
                )
                for task in tasks
            }
            for arm, scores in of_arm.items()
        }
        control = redrawn.get(study.control)
        for arm, scored in of_arm.items():
            row = {"arm": arm, "student": student, "cost": costs[arm], **_measured(scored)}
            row |= _training([folder / run.place for run, _ in mine if run.arm == arm])
            row["by_position"] = _positions([run for run, _ in mine if run.arm == arm], folder)
            row["runs"] = [run.place for run, _ in mine if run.arm == arm]
            compared = control and tasks and arm != study.control
            row["against_control"] = (
                difference(redrawn[arm], control)._asdict() if control and compared else None
            )
            report["rows"].append(row)
    return report


def _by_seed(
    study: Study, runs: Sequence[ArmRun], scores: Sequence[TaskScore]
) -> dict[int, Sequence[SeedScore]]:
    """What differs by chance: trainings, each with its fine-tunings; of one, its fine-tunings."""
    if study.seeds > 1:
        return {run.seed: score.seeds for run, score in zip(runs, scores, strict=True)}
    return {seed.seed: [seed] for score in scores for seed in score.seeds}


def _costs(runs: Sequence[ArmRun], folder: Path, *, timed: bool) -> dict[str, dict[str, Any]]:
    """What the student of each arm costs; those of one size are measured once."""
    first = {run.arm: run for run in reversed(runs)}
    models = {}
    for arm in dict.fromkeys(run.arm for run in runs):
        place = folder / first[arm].place
        sentence = students_sentence(first[arm].setup)
        models[arm] = Costed(str(place / "student"), sentence, place.parent / "cost.json")
    return costs_by_size(models, timed=timed)


def _task(location: str, part: EvaluationPart) -> Task:
    task = load_task(location, test_split=part.split)
    return subsample(
        task, rows=part.max_train_samples, seed=0, written=part.generation.max_eval_samples
    )


def _measured(scores: Mapping[str, Sequence[TaskScore]]) -> dict[str, Any]:
    """Mean and spread of every task and of their mean, over trainings and fine-tunings."""
    quality: dict[str, Any] = {}
    for task, trainings in scores.items():
        joined = TaskScore.joined(trainings)
        quality[task] = {
            "metric": joined.metric,
            "test_rows": joined.test_rows,
            "training_rows": joined.training_rows,
            "mean": joined.mean,
            "spread": joined.spread,
            "values": joined.values,
            "means": joined.means(),
            "by_training": TaskScore.by_training(trainings),
        }
    columns = list(zip(*(row["values"] for row in quality.values()), strict=True))
    means = [mean(column) for column in columns]
    spread = TaskScore.spread_of(means)
    return {"quality": quality, "mean": mean(means) if means else None, "spread": spread}


def _positions(runs: Sequence[ArmRun], folder: Path) -> dict[str, list[float]]:
    """Early and late in held-out texts, means over the trainings."""
    found = [positions_of_run(run.setup, folder / run.place) for run in runs]
    return {
        name: [mean(parts) for parts in zip(*(of_run[name] for of_run in found), strict=True)]
        for name in found[0]
    }


def _training(folders: Sequence[Path]) -> dict[str, Any]:
    """Of the first training; the others differ by their seeds. Losses are of its last stage."""
    records = RunLog(folders[0] / "log.jsonl").records()
    measured = [record for record in records if "held_out" in record]
    last = measured[-1]["stage_number"] if measured else 0
    held_out = [r["held_out"] for r in measured if r["stage_number"] == last] or [{}]
    facts = training_facts(records)
    facts.pop("stages", None)
    return {"training": facts, "held_out_before": held_out[0], "held_out": held_out[-1]}


def _notes(study: Study, found: Sequence[tuple[ArmRun, Scores]], part: EvaluationPart) -> list[str]:
    notes = evaluation_notes(part)
    if isinstance(study.equal, EqualTime):
        notes.append(f"every arm trained for {study.equal.seconds:g} s by a probe of its speed")
    else:
        tokens = {record for run, _ in found for record in [_tokens_line(run)]}
        notes.append(f"every arm learned from the same text: {', '.join(sorted(tokens))}")
    notes.append(_interval_note(study, part))
    return notes


def _interval_note(study: Study, part: EvaluationPart) -> str:
    """What the interval knows of, and what it cannot know."""
    told = f"from {study.draws} redraws of the rows, the same for the arm and for its control"
    told += f" {study.control!r}, with t quantiles; p is two-sided"
    if study.seeds > 1:
        return f"the 95 % interval is for other test rows and other trainings, {told}"
    missing = "every arm was trained once, and how far another training would lie is not in it"
    if part.seeds > 1:
        return f"the 95 % interval is for other test rows and other fine-tunings, {told}; {missing}"
    return f"the 95 % interval is for other test rows alone, {told}; {missing}"


def _tokens_line(run: ArmRun) -> str:
    stages = run.setup.stages
    length = run.setup.recipe.data.max_length
    return f"{sum(s.steps * s.batch_size * length for s in stages):,} tokens"
