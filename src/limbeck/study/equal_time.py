"""Arms that train for the same time: a probe of each arm's speed gives its steps."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import RecipeError
from ..recipe.check import prepare
from ..recipe.setup import Setup
from ..run.probe import Probe, probe
from ..system.files import write_text
from .arms import ArmRun


def of_equal_time(
    runs: Sequence[ArmRun], seconds: float, file: Path, console: Console
) -> list[ArmRun]:
    """The runs, each with as many steps as fit into the time at the speed of a probe.

    The probes are kept in ``file`` and serve again while the recipe and the time are the same.

    Raises:
        RecipeError: A run has begun with another recipe or time; its probe is still the one that it
            resumes with.
    """
    probed: dict[str, dict[str, Any]] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    timed = []
    for run in runs:
        of = {"seconds": seconds, "recipe": trained_recipe(run)}
        found = probed.get(run.place, {})
        if {name: found.get(name) for name in of} != of:
            place = file.parent / run.place
            if (place / "recipe.yaml").exists():
                raise RecipeError(
                    f"{place} holds a run of another recipe, or of another time than"
                    f" {seconds:g} seconds; use another folder for the study, or what it began"
                    " with to resume it, or remove the folder"
                )
            console.print(f"probing the speed of {run.arm}, {run.student}")
            probes = [probe(run.setup, number) for number in range(len(run.setup.stages))]
            counts = steps_within(run.setup, probes, seconds)
            found = probed[run.place] = {**of, "steps": counts}
            write_text(file, json.dumps(probed, indent=1))
        stages_raw = [
            {**stage, "tokens": None, "num_train_epochs": None, "max_steps": count}
            for stage, count in zip(run.raw["stages"], found["steps"], strict=True)
        ]
        raw = {**run.raw, "stages": stages_raw}
        timed.append(replace(run, raw=raw, setup=prepare(raw)))
    return timed


def steps_within(setup: Setup, probes: Sequence[Probe], seconds: float) -> list[int]:
    """How many steps of each stage fit into a time, in the proportion that the recipe gives them.

    Args:
        setup: Of a training.
        probes: One for each of its stages.
        seconds: That all of them may take.
    """
    pairs = list(zip(setup.stages, probes, strict=True))
    whole = sum(stage.steps * measured.seconds_per_step for stage, measured in pairs)
    return [max(1, round(stage.steps * seconds / whole)) for stage, _ in pairs]


def trained_recipe(run: ArmRun) -> str:
    """A hash of the part of an arm's recipe on which its training depends."""
    recipe = run.setup.recipe.model_dump_json(exclude={"name", "evaluation"})
    return hashlib.sha256(recipe.encode()).hexdigest()
