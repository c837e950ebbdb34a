"""A study becomes a folder: every arm trained and measured in the same way, and one table of all.

The same command, run again, resumes with the first arm that is not finished, and trains arms
that were added to the study. The report is written again after every arm.

The same command may run several times at once, where one training leaves room for another,
as small students on a large GPU do. Every process takes the next arm that no other has taken;
the first process also stores signals for the arms that follow, waits for the others and reports.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ..errors import InterruptedRunError, LimbeckError, TrainingError
from ..reports.comparison import write_comparison
from ..reports.study_results import StudyResult
from ..reports.study_search import ArmSearch
from ..run.accelerator import build_accelerator
from ..run.distill import train_run
from ..run.evaluate import evaluate_model
from ..run.measure_generation import positions_of_run
from ..run.measure_task import task_measures
from ..system.files import write_text
from ..system.locks import anyone_has, claim
from ..teacher.store import SignalStore
from ..training.processes import check_one_process
from .arms import ArmRun, evaluation_of, prepare_study
from .equal_time import of_equal_time
from .report import Scores, study_report
from .schema import EqualTime, Study
from .search import reuse, search
from .sharing import sharing

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
        room = int(study.kept_gigabytes * 1e9) if first else 0
        store, searches = SignalStore(folder / "signals", room), list[ArmSearch]()
        if study.search:
            runs, searches = search(study, runs, folder, folder / _CLAIMS, store, console)
        return _carry_out(study, runs, searches, folder, store, console, first=first)


def _carry_out(
    study: Study,
    runs: Sequence[ArmRun],
    searches: Sequence[ArmSearch],
    folder: Path,
    store: SignalStore,
    console: Console,
    *,
    first: bool,
) -> dict[str, Any]:
    """Carry out every arm that no other process has taken.

    The first process then waits for the arms of the others, and reports.
    """
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
                report = replace(report, search=searches)
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
    reuse(run, folder)
    train_run(run.setup, place, console, accelerator, teacher=sharing(store, runs, number))
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
