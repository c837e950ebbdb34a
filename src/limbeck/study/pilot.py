"""A few short trainings of a recipe, which tell whether the whole one is worth its time.

Each is a run of its own with its whole learning-rate schedule, so that it is a small copy of the
whole training and not its beginning.
"""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import RecipeError
from ..recipe.check import prepare
from ..recipe.setup import Setup
from ..reports.run_results import RunResult
from ..run.claim import check_kind
from ..run.distill import distill
from ..system.files import expanded, write_texts
from ..system.launcher import check_one_process
from .held_out import weighted_loss
from .pilot_report import Measured, PilotResult, pilot_markdown, pilot_result

BUDGETS = (0.02, 0.04, 0.08)
_LEAST_STEPS = 30  # of the longest stage of the shortest training
_MOST_SHARE = 0.5  # of the whole training that the longest of a pilot may take


@dataclass(frozen=True)
class PilotSettings:
    """How a pilot is made.

    Attributes:
        budgets: Shares of the recipe's steps, three or more.
        seeds: Trainings of each.
        keep: The share of its teacher's score that a student is worth training for.
        control: Whether labels alone are trained beside it, where there are labels.
    """

    budgets: tuple[float, ...] = BUDGETS
    seeds: int = 2
    keep: float = 0.9
    control: bool = True

    def check(self) -> None:
        """Refuse settings from which nothing can be said.

        Raises:
            RecipeError: With the first problem.
        """
        if len(set(self.budgets)) < 3 or not all(0 < share < 1 for share in self.budgets):
            raise RecipeError(
                f"the budgets are {', '.join(f'{b:g}' for b in self.budgets)}; give three or more"
                " shares of the steps that differ, between 0 and 1"
            )
        if self.seeds < 1:
            raise RecipeError(f"--seeds is {self.seeds}; give 1 or more")
        if self.seeds * len(self.budgets) < 4:
            raise RecipeError("three trainings leave nothing over for an interval; give --seeds 2")
        if not 0 < self.keep <= 1:
            raise RecipeError(f"--keep is {self.keep:g}; give more than 0 and at most 1")


def pilot(
    raw: Mapping[str, Any],
    output: Path | str,
    settings: PilotSettings,
    *,
    console: Console | None = None,
) -> PilotResult:
    """Carry out a pilot and give what it says; resumes what is not finished in ``output``.

    Args:
        raw: A recipe.
        output: The folder; every training is a run folder ``runs/ARM/STEPS-SEED`` in it.
        settings: How many trainings, and what a student is worth.
        console: For progress; None is silent.

    Raises:
        RecipeError: The recipe has problems, is so short that a pilot saves nothing, or the folder
            holds trainings of another recipe.
        LimbeckError: A training had to stop; those before it are complete.
    """
    check_one_process("a pilot")
    settings.check()
    setup, folder = prepare(raw), expanded(output)
    check_kind(folder, "pilot")
    console = console or Console(quiet=True, markup=False)
    shares = possible_budgets(setup, settings.budgets)
    arms = {"student": dict(raw)}
    if settings.control and (control := control_recipe(raw, setup)):
        arms["labels alone"] = control
    measured: dict[str, list[Measured]] = {arm: [] for arm in arms}
    total, done = len(arms) * len(shares) * settings.seeds, 0
    for share in shares:
        for seed in range(settings.seeds):
            for arm, recipe in arms.items():
                done += 1
                console.print(f"{done} of {total}: {arm}, {share:.3g} of the steps, seed {seed}")
                scored = not any(measured.values())  # the teacher is scored once
                short = shortened(recipe, setup, share, seed=seed, with_teacher=scored)
                place = folder / "runs" / arm.replace(" ", "-") / f"{share:.4g}-{seed}"
                measured[arm].append(_measured(short, place, share, seed, console))
    result = pilot_result(setup.recipe.name, measured, keep=settings.keep)
    plain = json.dumps(asdict(result), indent=1, ensure_ascii=False)
    write_texts({"pilot.json": plain + "\n", "pilot.md": pilot_markdown(result)}, folder)
    return result


def possible_budgets(setup: Setup, budgets: Sequence[float]) -> list[float]:
    """The budgets, all multiplied alike where the shortest would be of too few steps.

    Raises:
        RecipeError: The longest would then be more than half of the recipe.
    """
    longest = max(stage.steps for stage in setup.stages)
    factor = max(1.0, _LEAST_STEPS / (min(budgets) * longest))
    found = sorted({factor * share for share in budgets})
    if found[-1] > _MOST_SHARE:
        raise RecipeError(
            f"the recipe has {longest:,} steps in its longest stage, and a pilot of at least"
            f" {_LEAST_STEPS} steps would need {round(found[-1] * longest):,} for its longest"
            " training; carry out the whole recipe, or give budgets that are nearer to each other"
        )
    return found


def shortened(
    raw: Mapping[str, Any], setup: Setup, share: float, *, seed: int, with_teacher: bool
) -> dict[str, Any]:
    """A recipe with a share of its steps in every stage, measured without its cost."""
    short = copy.deepcopy(dict(raw))
    for stage, whole in zip(short["stages"], setup.stages, strict=True):
        for length in ("tokens", "num_train_epochs"):
            stage.pop(length, None)
        stage["max_steps"] = max(1, math.ceil(share * whole.steps))
    short["seed"] = setup.recipe.seed + seed
    part = {**(short.get("evaluation") or {}), "cost": False, "teacher": with_teacher}
    if not with_teacher:
        part.pop("baseline", None)
    short["evaluation"] = part
    return short


def control_recipe(raw: Mapping[str, Any], setup: Setup) -> dict[str, Any] | None:
    """The same with labels alone, from the same initialization; None where there are no labels."""
    control = copy.deepcopy(dict(raw))
    control.pop("method", None)
    for stage, part in zip(control["stages"], setup.stages, strict=True):
        if part.mixed is not None:
            continue
        name = "class_labels" if part.rows else "labels"
        stage.pop("preset", None)
        stage.pop("policy", None)
        stage.pop("alignment", None)
        stage["objectives"] = {name: {}}
    try:
        found = prepare(control)
    except RecipeError:
        return None
    same = all(
        set(one.objectives) == set(other.objectives)
        for one, other in zip(found.stages, setup.stages, strict=True)
    )
    return None if same else control


def _measured(
    raw: dict[str, Any], folder: Path, share: float, seed: int, console: Console
) -> Measured:
    run = distill(raw, folder, console=console)
    result = RunResult.from_json(run.report)
    setup = prepare(raw)
    before, after = weighted_loss(setup, folder, first=True), weighted_loss(setup, folder)
    found = Measured(share, seed, before, after)
    if not result.quality:
        return found
    task, quality = next(iter(result.quality.items()))
    return replace(
        found,
        task=task,
        metric=quality.metric,
        score=quality.student,
        teacher=quality.teacher,
        baseline=quality.no_distillation,
    )
