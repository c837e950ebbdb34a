"""A study becomes a folder: every arm trained and measured alike, and one table of them all.

Running the same command again goes on where it stands, arm by arm; arms that were added
to the study since are carried out then. The report is written anew after every arm.

The same command may run several times at once, where one training leaves room for another,
as small students on a large GPU do. Every process takes the next arm that none has taken;
the first one also keeps signals for the arms that follow it, waits for the others and reports.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from rich.console import Console

from . import __version__
from .activations import Name
from .assemble import build_accelerator
from .cacheable import teacher_identity
from .claims import anyone_has, claim
from .equal_time import of_equal_time
from .errors import InterruptedRunError, LimbeckError, TrainingError
from .evaluation.bootstrap import Difference, difference, draw_rows, redrawn_scores
from .evaluation.comparison import write_comparison
from .evaluation.cost import model_size
from .evaluation.seeds import TaskScore
from .evaluation.tasks import Task, load_task, subsample
from .files import write_text
from .measure import (
    evaluate_model,
    evaluation_notes,
    kept_cost,
    students_sentence,
    training_facts,
)
from .recipe import EvaluationPart
from .run import train_run
from .study import ArmRun, EqualTime, Study, evaluation_of, prepare_study
from .teacher.contract import Teacher
from .teacher.kept import KeptTeacher
from .teacher.live import LiveTeacher
from .teacher.store import SignalStore
from .training.processes import check_one_process
from .training.records import RunLog

Scores = dict[str, TaskScore]
_CLAIMS = "claims"


def compare(
    raw: Mapping[str, Any], output: Path | str, *, console: Console | None = None
) -> dict[str, Any]:
    """Carry out a study and give its report; goes on where ``output`` holds a part of it.

    Args:
        raw: The study, as `read_study` gives it.
        output: The study's folder; every arm's run folder is ``arms/STUDENT/ARM/SEED`` in it.
        console: For progress; None is silent.

    Returns:
        The report; nothing where another process is at the same study and will write it.

    Raises:
        TrainingError: A launcher has started several processes, or another process is at a
            study whose arms train equally long.
        RecipeError: The study or an arm has faults, or an arm's folder holds
            another recipe.
        LimbeckError: An arm had to stop; what was done before is whole.
    """
    check_one_process("a study")
    study, runs = prepare_study(raw)
    folder, console = Path(output), console or Console(quiet=True)
    with claim(folder / _CLAIMS, "study") as first:
        if not first and isinstance(study.equal, EqualTime):
            raise TrainingError(
                f"another process is at {folder}, and arms that train equally long must have the"
                " machine for themselves; wait for it, or compare at equal tokens"
            )
        if first:
            text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
            write_text(folder / "study.yaml", text)
        if isinstance(study.equal, EqualTime):
            runs = of_equal_time(runs, study.equal.seconds, folder / "probes.json", console)
        return _carry_out(study, runs, folder, console, first=first)


def _carry_out(
    study: Study, runs: Sequence[ArmRun], folder: Path, console: Console, *, first: bool
) -> dict[str, Any]:
    """Every arm that no other process has taken; the first process waits for those, and reports."""
    store = SignalStore(folder / "signals", int(study.kept_gigabytes * 1e9) if first else 0)
    claims, part = folder / _CLAIMS, evaluation_of(runs)
    found: dict[int, Scores] = {}
    report: dict[str, Any] = {}
    failed: LimbeckError | None = None
    open_, wait = list(range(len(runs))), False
    while open_:
        taken = []
        for number in open_:
            run = runs[number]
            with claim(claims, run.place, wait=wait) as mine:
                if not mine:
                    taken.append(number)
                    continue
                name = f"{run.arm}, {run.student}, seed {run.seed}"
                console.print(f"{number + 1} of {len(runs)}: {name}")
                try:
                    found[number] = _arm(runs, number, folder, store, console)
                except InterruptedRunError:
                    raise
                except LimbeckError as error:
                    # What others have finished meanwhile is reported first.
                    if not wait:
                        raise
                    failed = failed or error
                    continue
            if first:
                done = [(runs[n], found[n]) for n in sorted(found)]
                alone = len(done) == len(runs) or not anyone_has(claims, [r.place for r in runs])
                timed = part.cost and alone
                report = _report(study, done, part, folder, console, timed=timed)
                write_comparison(report, folder / "report")
        open_, wait = taken if first else [], True
    if failed:
        raise failed
    if first:
        store.remove()
    return report


def _arm(
    runs: Sequence[ArmRun], number: int, folder: Path, store: SignalStore, console: Console
) -> Scores:
    """Train and measure one, as far as that is not done."""
    run = runs[number]
    place, part = folder / run.place, evaluation_of(runs)
    accelerator = build_accelerator(run.setup.recipe, place)
    train_run(run.setup, place, console, accelerator, teacher=_sharing(store, runs, number))
    store.flush()
    return evaluate_model(
        str(place / "student"),
        part.tasks,
        part,
        results=place / "evaluation",
        console=console,
        label="student",
    )


def _sharing(
    store: SignalStore, runs: Sequence[ArmRun], number: int
) -> Callable[[LiveTeacher], Teacher] | None:
    """What makes a run keep the signals that later ones ask for too, and drop all others."""
    if not store.most_bytes:
        return None
    mine = _text_of(runs[number])
    alike = [run for run in runs[number + 1 :] if _text_of(run) == mine]
    later = {name for run in alike for name in _signals_of(run)}
    store.drop_all_but({name for run in runs[number:] for name in _signals_of(run)})
    identity = teacher_identity(runs[number].setup)
    return lambda live: KeptTeacher(live, store, worth=later, identity=identity)


def _text_of(run: ArmRun) -> tuple[object, ...]:
    """What decides which batches the teacher reads."""
    recipe = run.setup.recipe
    stages = [(s.batch_size, s.micro_batch_size, s.masking) for s in recipe.stages]
    return recipe.seed, recipe.data, recipe.teacher, str(stages), str(run.setup.maskings)


def _signals_of(run: ArmRun) -> set[Name]:
    return {name for stage in run.setup.stages for name in stage.teacher_needs().tensors()}


def _report(
    study: Study,
    found: Sequence[tuple[ArmRun, Scores]],
    part: EvaluationPart,
    folder: Path,
    console: Console,
    *,
    timed: bool,
) -> dict[str, Any]:
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
                    task, [s for score in scores[task.name] for s in score.seeds], drawn[task.name]
                )
                for task in tasks
            }
            for arm, scores in of_arm.items()
        }
        control = redrawn.get(study.control)
        for arm, scored in of_arm.items():
            row = {"arm": arm, "student": student, "cost": costs[arm], **_measured(scored)}
            row |= _training([folder / run.place for run, _ in mine if run.arm == arm])
            row["runs"] = [run.place for run, _ in mine if run.arm == arm]
            against: Difference | None = None
            if control and tasks and arm != study.control:
                gap = row["mean"] - _measured(of_arm[study.control])["mean"]
                against = difference(redrawn[arm], control, observed=gap, seed=0)
            row["against_control"] = against._asdict() if against else None
            report["rows"].append(row)
    return report


def _costs(runs: Sequence[ArmRun], folder: Path, *, timed: bool) -> dict[str, dict[str, Any]]:
    """What the student of each arm costs; those of one size are measured once."""
    of_size: dict[tuple[int, ...], dict[str, Any]] = {}
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run.arm in found:
            continue
        place = (folder / run.place).parent
        model = str(folder / run.place / "student")
        size = model_size(model)
        sentence = students_sentence(run.setup)
        key = (size["parameters"], size["embedding_parameters"], sentence)
        if key not in of_size:
            kept = place / "cost.json"
            of_size[key] = kept_cost(model, kept, sentence=sentence) if timed else size
        found[run.arm] = of_size[key]
    return found


def _task(location: str, part: EvaluationPart) -> Task:
    task = load_task(location, test_split=part.test_split)
    return subsample(task, rows=part.training_rows, seed=0, written=part.writing.rows)


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
        }
    columns = list(zip(*(row["values"] for row in quality.values()), strict=True))
    means = [mean(column) for column in columns]
    spread = TaskScore.spread_of(means)
    return {"quality": quality, "mean": mean(means) if means else None, "spread": spread}


def _training(folders: Sequence[Path]) -> dict[str, Any]:
    """Of the first training; the others differ by their seeds alone."""
    records = RunLog(folders[0] / "log.jsonl").records()
    held_out = [record["held_out"] for record in records if "held_out" in record]
    facts = training_facts(records)
    facts.pop("stages", None)
    return {"training": facts, "held_out": held_out[-1] if held_out else {}}


def _notes(study: Study, found: Sequence[tuple[ArmRun, Scores]], part: EvaluationPart) -> list[str]:
    notes = evaluation_notes(part)
    if isinstance(study.equal, EqualTime):
        notes.append(f"every arm trained for {study.equal.seconds:g} s by a probe of its speed")
    else:
        tokens = {record for run, _ in found for record in [_tokens_line(run)]}
        notes.append(f"every arm learned from the same text: {', '.join(sorted(tokens))}")
    notes.append(
        f"the interval holds 95 % of {study.draws} redraws of test rows and seeds, the same rows"
        f" for the arm and for its control {study.control!r}; p is two-sided"
    )
    return notes


def _tokens_line(run: ArmRun) -> str:
    stages = run.setup.stages
    length = run.setup.recipe.data.length
    return f"{sum(s.steps * s.batch_size * length for s in stages):,} tokens"
