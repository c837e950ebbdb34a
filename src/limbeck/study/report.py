"""What a study has found so far: every arm's scores, costs and difference from the control."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from statistics import mean
from typing import Any

from .. import __version__
from ..evaluation.intervals import difference
from ..evaluation.seeds import TaskScore
from ..recipe.schema import EvaluationPart
from ..recipe.setup import Setup
from ..reports.study_results import ArmResult, StudyResult, TaskResult, TeacherResult
from ..run.costs import Costed, costs_by_size, students_sentence, teacher_cost
from ..run.evaluate import evaluation_notes
from ..run.measure_generation import positions_of_run
from ..run.measure_training import training_facts
from ..training.records import RunLog
from .arms import ArmRun, evaluation_of
from .redraws import Redraws
from .schema import EqualTime, Study
from .scores import Scores


def study_report(
    study: Study,
    runs: Sequence[ArmRun],
    scored: Mapping[int, Scores],
    teacher: Scores | None,
    redraws: Redraws,
    folder: Path,
    *,
    timed: bool,
) -> StudyResult:
    """What a study has found so far, for its report.

    Args:
        study: As it was read.
        runs: All of its trainings.
        scored: The scores of those that have ended, by their number.
        teacher: Scores of the teacher; None where it has not been scored.
        redraws: Of the test rows.
        folder: The study's folder.
        timed: Whether to measure milliseconds and memory too, or only sizes.
    """
    part = evaluation_of(runs)
    found = [(runs[number], scored[number]) for number in sorted(scored)]
    students: dict[str, dict[str, Any]] = {}
    rows: list[ArmResult] = []
    for student in study.students:
        mine = [(run, scores) for run, scores in found if run.student == student]
        if not mine:
            continue
        costs = _costs([run for run, _ in mine], folder, timed=timed)
        students[student] = costs[mine[0][0].arm]
        rows += _rows(study, mine, redraws, costs, folder)
    return StudyResult(
        name=study.name,
        limbeck_version=__version__,
        command=f"limbeck compare {quote(f'{folder}/study.yaml')} -o {quote(str(folder))}",
        again=f"limbeck distill {quote(f'{folder}/RUN/recipe.yaml')} -o ANOTHER_FOLDER",
        control=study.control,
        trainings=study.seeds,
        fine_tunings=part.seeds,
        teacher=None if teacher is None else _teacher(runs, teacher, redraws, folder, timed=timed),
        students=students,
        rows=rows,
        notes=_notes(study, found, part, [*_unscored(runs, teacher, redraws)]),
        pending=[run.place for number, run in enumerate(runs) if number not in scored],
    )


def taught(runs: Sequence[ArmRun]) -> Setup | None:
    """The first training whose teacher is to be scored; None where none is."""
    if not evaluation_of(runs).teacher:
        return None
    return next((run.setup for run in runs if run.setup.recipe.teacher), None)


def _teacher(
    runs: Sequence[ArmRun], scores: Scores, redraws: Redraws, folder: Path, *, timed: bool
) -> TeacherResult | None:
    """The scores and the cost of the teacher; the cost is kept in the study's folder.

    A teacher without a score on each task has no mean: it would be of other tasks than the arms'.
    """
    setup = taught(runs)
    if setup is None:
        return None
    names = setup.models.teacher_names
    cost = teacher_cost(names, folder / "teacher" / "cost.json", timed=timed)
    names_of_tasks = [task.name for task in redraws.tasks]
    known = {name: [scores[name]] for name in names_of_tasks if name in scores}
    measured = _measured(known)
    if len(known) < len(names_of_tasks):
        measured |= {"mean": None, "spread": None}
    return TeacherResult(**measured, name=" + ".join(names), cost=cost)


def _rows(
    study: Study,
    found: Sequence[tuple[ArmRun, Scores]],
    redraws: Redraws,
    costs: Mapping[str, dict[str, Any]],
    folder: Path,
) -> list[ArmResult]:
    """The rows of one student, one for each arm."""
    tasks = redraws.tasks
    runs: dict[str, list[ArmRun]] = {}
    scored: dict[str, dict[str, list[TaskScore]]] = {}
    redrawn = {}
    for arm in dict.fromkeys(run.arm for run, _ in found):
        runs[arm] = [run for run, _ in found if run.arm == arm]
        scored[arm] = {
            task.name: [scores[task.name] for run, scores in found if run.arm == arm]
            for task in tasks
        }
        redrawn[arm] = redraws.of(runs[arm], scored[arm])
    control = redrawn.get(study.control)
    rows = []
    for arm, mine in runs.items():
        gap = None
        if control and tasks and arm != study.control:
            gap = difference(redrawn[arm], control)
        row = ArmResult(
            arm=arm,
            student=mine[0].student,
            cost=costs[arm],
            **_measured(scored[arm]),
            **_training([folder / run.place for run in mine]),
            by_position=_positions(mine, folder),
            runs=[run.place for run in mine],
            against_control=gap,
        )
        rows.append(row)
    return rows


def _costs(runs: Sequence[ArmRun], folder: Path, *, timed: bool) -> dict[str, dict[str, Any]]:
    """What the student of each arm costs; students of the same size are measured once."""
    first = {run.arm: run for run in reversed(runs)}
    models = {}
    for arm in dict.fromkeys(run.arm for run in runs):
        place = folder / first[arm].place
        sentence = students_sentence(first[arm].setup)
        models[arm] = Costed(str(place / "student"), sentence, place.parent / "cost.json")
    return costs_by_size(models, timed=timed)


def _measured(scores: Mapping[str, Sequence[TaskScore]]) -> dict[str, Any]:
    """Mean and standard deviation of each task and of all, over trainings and fine-tunings."""
    quality: dict[str, TaskResult] = {}
    for task, trainings in scores.items():
        joined = TaskScore.joined(trainings)
        quality[task] = TaskResult(
            metric=joined.metric,
            test_rows=joined.test_rows,
            training_rows=joined.training_rows,
            mean=joined.mean,
            spread=joined.deviation,
            values=joined.values,
            means=joined.means(),
            by_training=TaskScore.by_training(trainings),
        )
    means = [mean(column) for column in _columns(scores)]
    deviation = TaskScore.deviation_of(means)
    return {"quality": quality, "mean": mean(means) if means else None, "spread": deviation}


def _columns(scores: Mapping[str, Sequence[TaskScore]]) -> Iterator[tuple[float, ...]]:
    """The scores of every fine-tuning on all tasks; a task without any has one for all of them."""
    for of_training in zip(*scores.values(), strict=True):
        values = [score.values for score in of_training]
        most = max(map(len, values))
        yield from zip(*(v * most if len(v) == 1 else v for v in values), strict=True)


def _positions(runs: Sequence[ArmRun], folder: Path) -> dict[str, list[float]]:
    """Measures by position in held-out texts, averaged over the trainings."""
    found = [positions_of_run(run.setup, folder / run.place) for run in runs]
    return {
        name: [mean(parts) for parts in zip(*(of_run[name] for of_run in found), strict=True)]
        for name in found[0]
    }


def _training(folders: Sequence[Path]) -> dict[str, Any]:
    """Facts of the first training, as the others differ only by seed; losses of its last stage."""
    records = RunLog(folders[0] / "log.jsonl").records()
    measured = [record for record in records if "held_out" in record]
    last = measured[-1]["stage_number"] if measured else 0
    held_out = [r["held_out"] for r in measured if r["stage_number"] == last] or [{}]
    found = training_facts(records)
    facts = found.to_json() if found else {}
    facts.pop("stages", None)
    return {"training": facts, "held_out_before": held_out[0], "held_out": held_out[-1]}


def _unscored(runs: Sequence[ArmRun], teacher: Scores | None, redraws: Redraws) -> Iterator[str]:
    """Which scores there are not, in sentences."""
    if redraws.differ:
        yield (
            "the arms do not all learn the same task, so none is scored with the head that it"
            " learns: only the tasks of the evaluation are compared"
        )
    if teacher is not None and (lacking := [t for t in redraws.tasks if t.name not in teacher]):
        named = ", ".join(task.name for task in lacking)
        yield f"the teacher has no score on {named}, for which it has no head, and so no mean"


def _notes(
    study: Study,
    found: Sequence[tuple[ArmRun, Scores]],
    part: EvaluationPart,
    unscored: Sequence[str],
) -> list[str]:
    notes = [*evaluation_notes(part), *unscored]
    if isinstance(study.equal, EqualTime):
        notes.append(
            f"every arm trained for {study.equal.seconds:g} s, estimated by a probe of its speed"
        )
    else:
        tokens = ", ".join(sorted({_tokens_line(run) for run, _ in found}))
        one = all(run.setup.recipe.data == found[0][0].setup.recipe.data for run, _ in found)
        said = "learned from the same text" if one else "read as much, not all the same text"
        notes.append(f"every arm {said}: {tokens}")
    notes.append(_interval_note(study, part))
    return notes


def _interval_note(study: Study, part: EvaluationPart) -> str:
    """Which chance the interval covers, and which it cannot cover."""
    method = f"from {study.draws} redraws of the rows, the same for the arm and for its control"
    method += f" {study.control!r}, with t quantiles; p is two-sided"
    if study.seeds > 1:
        return f"the 95 % interval is for other test rows and other trainings, {method}"
    missing = "every arm was trained once, so the interval does not cover how far trainings differ"
    if part.seeds > 1:
        return (
            f"the 95 % interval is for other test rows and other fine-tunings, {method}; {missing}"
        )
    return f"the 95 % interval is for other test rows alone, {method}; {missing}"


def _tokens_line(run: ArmRun) -> str:
    """How much a training reads. The tokens of rows and prompts are not known: any may be short."""
    data, counts = run.setup.recipe.data, Counter[str]()
    for stage in run.setup.stages:
        texts = stage.steps * stage.batch_size
        if stage.rows:
            counts["rows"] += texts
        elif stage.policy is not None and not data.packs_prompts:
            counts["prompts"] += texts
        else:
            counts["tokens"] += texts * data.max_length
    return " and ".join(f"{count:,} {what}" for what, count in counts.items())
