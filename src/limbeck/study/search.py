"""The values of a study's searched fields, chosen for every arm on the rows that it holds out.

Every arm and the control have the same grid, each point of it is one training with the first
seed, and no scored row is read: so each is compared at its best, for the same budget.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import DivergedError, TrainingError
from ..reports.study_search import ArmSearch, SearchTraining
from ..run.accelerator import build_accelerator
from ..run.claim import claim_folder
from ..run.distill import train_run
from ..system.files import kept, remembered, whole_folder
from ..system.locks import claim
from ..system.progress import warn
from ..teacher.store import SignalStore
from .arms import ArmRun, seeded
from .equal_time import trained_recipe
from .held_out import HeldOutScore, held_out_score, held_out_task
from .schema import Study, named_values
from .sharing import sharing

_KEPT = "held_out.json"


def search(
    study: Study,
    runs: Sequence[ArmRun],
    folder: Path,
    claims: Path,
    store: SignalStore,
    console: Console,
) -> tuple[list[ArmRun], list[ArmSearch]]:
    """The trainings of every arm with the chosen values and every seed, and what was tried.

    Finished trainings of the search are not repeated; those of another process are waited for.

    Args:
        study: With the grid.
        runs: Every training of the search.
        folder: The study's.
        claims: Where processes say what they work on.
        store: The teacher's signals that trainings share.
        console: For progress.

    Raises:
        TrainingError: No value gives an arm a finite loss.
    """
    arms = list(dict.fromkeys((run.arm, run.student) for run in runs))
    later = len(arms) * (study.seeds - 1)  # with the first seed it is one of the search
    console.print(f"{len(runs)} trainings of the search, then {later} with other seeds")
    found: dict[int, SearchTraining] = {}
    open_, wait = list(range(len(runs))), False
    while open_:
        taken = []
        for number in open_:
            run = runs[number]
            with claim(claims, run.place, wait=wait) as mine:
                if mine:
                    where = f"search, {number + 1} of {len(runs)}: {run.arm}, {run.student}"
                    console.print(f"{where}, {named_values(run.values)}")
                    found[number] = _trained(runs, number, folder, claims, store, console)
                else:
                    taken.append(number)
        open_, wait = taken, True
    return _continued(study, runs, found)


def finished_search(
    study: Study, runs: Sequence[ArmRun], folder: Path
) -> tuple[list[ArmRun], list[ArmSearch]] | None:
    """What `search` gives, where all of its trainings have ended; else None.

    Args:
        study: With the grid.
        runs: Every training of the search.
        folder: The study's.
    """
    if not all((folder / run.place / _KEPT).exists() for run in runs):
        return None
    found = {}
    for number, run in enumerate(runs):
        tried = kept(folder / run.place / _KEPT, {"recipe": trained_recipe(run)})
        if tried is None:
            return None
        found[number] = SearchTraining(run.values, tried["score"], tried["loss"], run.place)
    return _continued(study, runs, found)


def _continued(
    study: Study, runs: Sequence[ArmRun], found: Mapping[int, SearchTraining]
) -> tuple[list[ArmRun], list[ArmSearch]]:
    """The trainings with the chosen values and every seed, and what was tried."""
    chosen, searches = [], []
    for arm, student in dict.fromkeys((run.arm, run.student) for run in runs):
        numbers = [n for n, run in enumerate(runs) if (run.arm, run.student) == (arm, student)]
        result = _chosen(runs[numbers[0]], [found[number] for number in numbers])
        searches.append(result)
        chosen += seeded(study, runs[numbers[result.chosen]])
    return chosen, searches


def reuse(run: ArmRun, folder: Path) -> None:
    """Begin a run folder with the training of the search that is the same, where there is one.

    Args:
        run: A training of an arm.
        folder: The study's.
    """
    place = folder / run.place
    if run.trained is None or (place / "recipe.yaml").exists():
        return
    with whole_folder(place) as part:
        ignored = shutil.ignore_patterns("state", _KEPT)  # checkpoints of a finished training
        shutil.copytree(folder / run.trained, part, ignore=ignored, dirs_exist_ok=True)


def _trained(
    runs: Sequence[ArmRun],
    number: int,
    folder: Path,
    claims: Path,
    store: SignalStore,
    console: Console,
) -> SearchTraining:
    """Train and measure one point of the grid, as far as that is not done."""
    run, place = runs[number], folder / runs[number].place

    def measure() -> dict[str, Any]:
        accelerator = build_accelerator(run.setup.recipe.training, place)
        try:
            with sharing(store, claims, runs, number, done=done) as wrap:
                train_run(run.setup, place, console, accelerator, wrap=wrap)
        except DivergedError as error:
            warn(console, str(error))
            return asdict(HeldOutScore(None, None))
        return asdict(held_out_score(run.setup, place))

    def done(other: ArmRun) -> bool:
        return (folder / other.place / _KEPT).exists()

    claim_folder(place, run.setup.recipe, write=True)
    found = remembered(place / _KEPT, {"recipe": trained_recipe(run)}, measure)
    return SearchTraining(run.values, found["score"], found["loss"], run.place)


def _chosen(run: ArmRun, trainings: Sequence[SearchTraining]) -> ArmSearch:
    """What was tried for an arm, with the best of it.

    Raises:
        TrainingError: No loss is finite.
    """
    best = max(range(len(trainings)), key=lambda number: trainings[number].rank)
    if trainings[best].loss is None:
        tried = "; ".join(named_values(training.values) for training in trainings)
        raise TrainingError(
            f"the loss of {run.arm} ({run.student}) is not finite with any of the searched values"
            f" ({tried}); search lower learning rates; bfloat16 may need precision: float32"
        )
    task = held_out_task(run.setup)
    return ArmSearch(
        arm=run.arm,
        student=run.student,
        metric=task.headline if task else None,
        rows=len(task.test) if task else 0,
        trainings=trainings,
        chosen=best,
    )
