"""A study becomes a folder: every arm trained and measured in the same way, and one table of all.

The same command, run again, resumes with the arms that are not finished, and trains arms that were
added to the study. The report is written again after every arm.

Several processes carry out a study: workers that the command starts, or the same command run
several times. Each takes the next arm that no other has taken. The first process waits for all
others and reports.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ..errors import DivergedError, InterruptedRunError, LimbeckError, TrainingError
from ..reports.study_search import ArmSearch
from ..run.accelerator import build_accelerator
from ..run.claim import check_kind, claim_folder
from ..run.distill import train_run
from ..system.files import expanded, write_text
from ..system.launcher import check_one_process
from ..system.locks import claim
from ..system.progress import duration, warn
from ..teacher.store import SignalStore
from .arms import ArmRun, prepare_study
from .equal_time import of_equal_time
from .progress import Progress
from .schema import EqualTime, Study, parse_study
from .scores import is_scored
from .search import finished_search, reuse, search
from .sharing import sharing, signal_store
from .workers import default_processes, work

_CLAIMS = "claims"


def compare(
    raw: Mapping[str, Any],
    output: Path | str,
    *,
    num_processes: int | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Carry out a study and give its report; resumes where ``output`` holds a part of the study.

    Args:
        raw: The study, as `read_study` gives it.
        output: The study's folder; every arm's run folder is ``arms/STUDENT/ARM/SEED`` in it.
        num_processes: That train at the same time; by default one for each visible GPU, and one
            where there is none or where arms train for equal times.
        console: For progress; None is silent.

    Returns:
        The report; an empty one where another process works on the same study and will report.

    Raises:
        TrainingError: A launcher has started several processes, or several would train arms for
            equal times, or a worker failed.
        RecipeError: The study or an arm has problems, or an arm's folder holds
            another recipe.
        DivergedError: The loss of an arm was not finite; all others are complete.
        LimbeckError: An arm had to stop; the arms before it are complete.
    """
    check_one_process("a study")
    _check_number(parse_study(raw), num_processes)
    study, runs = prepare_study(raw)
    folder = expanded(output)
    console = console or Console(quiet=True, markup=False)
    check_kind(folder, "study")
    with claim(folder / _CLAIMS, "study") as first:
        if not first and isinstance(study.equal, EqualTime):
            raise TrainingError(
                f"another process is at {folder}, and arms that train for equal times need the"
                " whole machine; wait for that process, or compare at equal tokens"
            )
        if isinstance(study.equal, EqualTime):
            runs = of_equal_time(runs, study.equal.seconds, folder / "probes.json", console)
        for run in runs:
            if (folder / run.place / "recipe.yaml").exists():
                claim_folder(folder / run.place, run.setup.recipe, write=False)
        if first:
            text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
            write_text(folder / "study.yaml", text)
        if num_processes is None:
            alone = not first or isinstance(study.equal, EqualTime)
            num_processes = 1 if alone else default_processes(runs)
        num_processes = min(num_processes, _open_trainings(study, runs, folder))
        if num_processes > 1:
            work(folder, num_processes, console, _reporting(study, runs, folder, report=first))
        room = int(study.kept_gigabytes * 1e9)
        with signal_store(folder / "signals", room, folder / _CLAIMS) as store:
            report = _carry_out(study, runs, folder, store, console, first=first)
            if first:
                store.remove()
    return report


def _check_number(study: Study, num_processes: int | None) -> None:
    """Refuse a number of processes that the study cannot have.

    Raises:
        TrainingError: There are to be less than one, or several for equal times.
    """
    if num_processes is not None and num_processes < 1:
        raise TrainingError(f"num_processes is {num_processes}; give 1 or more")
    if num_processes and num_processes > 1 and isinstance(study.equal, EqualTime):
        raise TrainingError(
            f"num_processes is {num_processes}, and arms that train for equal times need the whole"
            " machine each; leave it out, or compare at equal tokens"
        )


def _open_trainings(study: Study, runs: Sequence[ArmRun], folder: Path) -> int:
    """How many trainings have not ended; of a search that has not ended, all of it."""
    if study.search:
        found = finished_search(study, runs, folder)
        if found is None:
            return len(runs)
        runs, _ = found
    return sum(not is_scored(run, folder) for run in runs)


def _reporting(
    study: Study, runs: Sequence[ArmRun], folder: Path, *, report: bool
) -> Callable[[], None]:
    """A function that writes the report where trainings have ended since it was called last."""
    progress: Progress | None = None if study.search else Progress(study, runs, [], folder)

    def look() -> None:
        nonlocal progress
        if not report:
            return
        if progress is None:
            found = finished_search(study, runs, folder)
            progress = found and Progress(study, *found, folder)
        if progress and progress.look() and progress.scored:
            progress.report(last=False)

    return look


def _carry_out(
    study: Study,
    runs: Sequence[ArmRun],
    folder: Path,
    store: SignalStore,
    console: Console,
    *,
    first: bool,
) -> dict[str, Any]:
    """Carry out every arm that no other process has taken.

    The first process then waits for the arms of the others, and reports.
    """
    claims, searches = folder / _CLAIMS, list[ArmSearch]()
    if study.search:
        runs, searches = search(study, runs, folder, claims, store, console)
        for limit in [limit for found in searches if first for limit in found.limits()]:
            warn(console, limit)
    progress = Progress(study, runs, searches, folder)
    progress.look()
    failed = _train_all(runs, folder, store, progress, console, first=first)
    if not first:
        return {}
    if failed:
        raise failed
    progress.score_teacher(claims, console, wait=True)
    return progress.report(last=True).to_json()


def _train_all(
    runs: Sequence[ArmRun],
    folder: Path,
    store: SignalStore,
    progress: Progress,
    console: Console,
    *,
    first: bool,
) -> LimbeckError | None:
    """Train and measure every arm that is open; the error of one that diverged or others had left.

    Only the first process reports. It also sees that arms that have ended are still of this study.
    """
    claims, failed = folder / _CLAIMS, None
    open_, wait = [n for n in range(len(runs)) if first or n not in progress.scored], False
    while open_:
        taken = []
        for number in open_:
            with claim(claims, runs[number].place, wait=wait) as mine:
                if not mine:
                    taken.append(number)
                    continue
                progress.look()  # another process may have ended it in the meantime
                new = number not in progress.scored
                if not (first or new):
                    continue
                try:
                    _arm(runs, number, folder, store, progress, console)
                except InterruptedRunError:
                    raise
                except LimbeckError as error:
                    # What others have finished meanwhile is reported first, and an arm whose loss
                    # is not finite says nothing of those after it.
                    if not wait and not isinstance(error, DivergedError):
                        raise
                    console.print(f"error: {error}", style="red", highlight=False, markup=False)
                    failed = failed or error
                    continue
            if new:
                progress.score_teacher(claims, console, wait=False)
            if first and new:
                progress.look()
                if progress.scored:
                    progress.report(last=False)
        open_, wait = taken if first else [], True
    return failed


def _arm(
    runs: Sequence[ArmRun],
    number: int,
    folder: Path,
    store: SignalStore,
    progress: Progress,
    console: Console,
) -> None:
    """Train and measure one arm, as far as that is not done; errors name it."""
    run, began = runs[number], time.monotonic()
    place, name = folder / run.place, f"{run.arm}, {run.student}, seed {run.seed}"
    new = number not in progress.scored
    if new:
        console.print(f"{number + 1} of {len(runs)}: {name}")
    try:
        accelerator = build_accelerator(run.setup.recipe.training, place)
        reuse(run, folder)
        with sharing(store, folder / _CLAIMS, runs, number, done=progress.done) as wrap:
            train_run(run.setup, place, console, accelerator, wrap=wrap)
        progress.score(number, console)
    except InterruptedRunError:
        raise
    except LimbeckError as error:
        raise type(error)(f"{name}: {error}") from error
    if new:
        console.print(f"done in {duration(time.monotonic() - began)}: {name}")
