"""A study becomes a folder: every arm trained and measured in the same way, and one table of all.

The same command, run again, resumes with the first arm that is not finished, and trains arms
that were added to the study. The report is written again after every arm.

The same command may run several times at once, where one training leaves room for another,
as small students on a large GPU do. Every process takes the next arm that no other has taken;
the first process also stores signals for the arms that follow, waits for the others and reports.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ..activations import Name
from ..errors import InterruptedRunError, LimbeckError, TrainingError
from ..reports.comparison import write_comparison
from ..reports.study_results import StudyResult
from ..run.accelerator import build_accelerator
from ..run.cacheable import teacher_identity
from ..run.distill import train_run
from ..run.evaluate import evaluate_model
from ..run.measure_generation import positions_of_run
from ..run.measure_task import task_measures
from ..system.files import write_text
from ..system.locks import anyone_has, claim
from ..teacher.contract import Teacher
from ..teacher.live import LiveTeacher
from ..teacher.memoized import MemoizedTeacher
from ..teacher.store import SignalStore
from ..training.processes import check_one_process
from .arms import ArmRun, evaluation_of, prepare_study
from .equal_time import of_equal_time
from .report import Scores, study_report
from .schema import EqualTime, Study

_CLAIMS = "claims"


def compare(
    raw: Mapping[str, Any], output: Path | str, *, console: Console | None = None
) -> dict[str, Any]:
    """Carry out a study and give its report; resumes where ``output`` holds a part of the study.

    Args:
        raw: The study, as `read_study` gives it.
        output: The study's folder; every arm's run folder is ``arms/STUDENT/ARM/SEED`` in it.
        console: For progress; None is silent.

    Returns:
        The report; an empty one where another process works on the same study and will report.

    Raises:
        TrainingError: A launcher has started several processes, or another process works on
            this study and its arms train for equal times.
        RecipeError: The study or an arm has problems, or an arm's folder holds
            another recipe.
        LimbeckError: An arm had to stop; the arms before it are complete.
    """
    check_one_process("a study")
    study, runs = prepare_study(raw)
    folder, console = Path(output), console or Console(quiet=True)
    with claim(folder / _CLAIMS, "study") as first:
        if not first and isinstance(study.equal, EqualTime):
            raise TrainingError(
                f"another process is at {folder}, and arms that train for equal times need the"
                " whole machine; wait for that process, or compare at equal tokens"
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
    """Carry out every arm that no other process has taken.

    The first process then waits for the arms of the others, and reports.
    """
    store = SignalStore(folder / "signals", int(study.kept_gigabytes * 1e9) if first else 0)
    claims, part = folder / _CLAIMS, evaluation_of(runs)
    found: dict[int, Scores] = {}
    report: StudyResult | None = None
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
                report = study_report(study, done, part, folder, console, timed=timed)
                write_comparison(report, folder / "report")
        open_, wait = taken if first else [], True
    if failed:
        raise failed
    if first:
        store.remove()
    return report.to_json() if report else {}


def _arm(
    runs: Sequence[ArmRun], number: int, folder: Path, store: SignalStore, console: Console
) -> Scores:
    """Train and measure one arm, as far as that is not done."""
    run = runs[number]
    place, part = folder / run.place, evaluation_of(runs)
    accelerator = build_accelerator(run.setup.recipe.training, place)
    train_run(run.setup, place, console, accelerator, teacher=_sharing(store, runs, number))
    store.flush()
    scores = evaluate_model(
        str(place / "student"),
        part.tasks,
        part,
        results=place / "evaluation",
        console=console,
        label="student",
    )
    if learned := task_measures(run.setup, {"student": str(place / "student")}):
        scores = {learned.answers.task: learned.scores["student"], **scores}
    positions_of_run(run.setup, place)  # stored in the run folder for the report
    return scores


def _sharing(
    store: SignalStore, runs: Sequence[ArmRun], number: int
) -> Callable[[LiveTeacher], Teacher] | None:
    """A teacher that stores the signals that later runs need too; all other signals are removed."""
    if not store.most_bytes:
        return None
    mine = _text_of(runs[number])
    same_text = [run for run in runs[number + 1 :] if _text_of(run) == mine]
    later = {name for run in same_text for name in _signals_of(run)}
    store.drop_all_but({name for run in runs[number:] for name in _signals_of(run)})
    identity = teacher_identity(runs[number].setup)
    return lambda live: MemoizedTeacher(live, store, worth=later, identity=identity)


def _text_of(run: ArmRun) -> tuple[object, ...]:
    """What determines which batches the teacher reads."""
    recipe = run.setup.recipe
    stages = [(s.batch_size, s.micro_batch_size, s.masking) for s in recipe.stages]
    return recipe.seed, recipe.data, recipe.teacher, str(stages), str(run.setup.maskings)


def _signals_of(run: ArmRun) -> set[Name]:
    return {name for stage in run.setup.stages for name in stage.teacher_needs().tensors()}
