"""The trainings of a study: every arm for every student and seed, all checked before any runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import Problem
from ..recipe.check import check
from ..recipe.schema import EvaluationPart
from ..recipe.setup import Setup
from .schema import (
    ArmRecipe,
    Study,
    arm_recipes,
    parse_study,
    placed,
    refuse,
    study_problems,
)

_ROUNDING = 0.002  # stages are whole steps, so several of them read a little more than one


@dataclass(frozen=True)
class ArmRun:
    """One training: an arm, on a student, with a seed."""

    arm: str
    student: str
    seed: int
    raw: Mapping[str, Any]
    setup: Setup

    @property
    def place(self) -> str:
        """Its folder in the study's."""
        return f"arms/{self.student}/{self.arm}/{self.seed}"


def prepare_study(raw: Mapping[str, Any]) -> tuple[Study, list[ArmRun]]:
    """The study and all its trainings; those that can share the teacher's signals are adjacent.

    Raises:
        RecipeError: With every problem of the study and of its arms, each with its place.
    """
    study = parse_study(raw)
    recipes, problems = arm_recipes(study)
    problems = [*study_problems(study), *problems]
    runs: list[ArmRun] = []
    for recipe in recipes:
        setup, found = check(recipe.raw)
        problems += placed(recipe, found)
        if setup:
            runs += _seeded(study, recipe, setup)
    problems += _identical_arms(runs)
    problems += [
        (
            f"arms.{run.arm}",
            "changes how prompts are worded (data.chat_template, data.separator), but all arms"
            " must be measured in the same way; set evaluation.generation.chat_template and"
            " evaluation.generation.separator in the recipe",
        )
        for run in runs
        if run.setup.recipe.evaluation != runs[0].setup.recipe.evaluation
    ]
    if not problems and study.equal == "tokens":
        problems += _unequal_tokens(study, runs)
    refuse(problems)
    return study, runs


def evaluation_of(runs: Sequence[ArmRun]) -> EvaluationPart:
    """How every arm is measured."""
    return runs[0].setup.recipe.evaluation


def tokens_of(setup: Setup) -> int:
    """Tokens of all stages."""
    length = setup.recipe.data.max_length
    return sum(stage.steps * stage.batch_size * length for stage in setup.stages)


def _seeded(study: Study, recipe: ArmRecipe, setup: Setup) -> list[ArmRun]:
    seeds = [setup.recipe.seed + number for number in range(study.seeds)]
    return [
        ArmRun(
            recipe.arm,
            recipe.student,
            seed,
            {**recipe.raw, "seed": seed},
            setup.with_seed(seed),
        )
        for seed in seeds
    ]


def _identical_arms(runs: Sequence[ArmRun]) -> list[Problem]:
    """Arms that are the same training under different names."""
    problems: list[Problem] = []
    for number, run in enumerate(runs):
        for other in runs[:number]:
            if other.seed == run.seed and _resolved(other) == _resolved(run):
                name, twin = f"{run.student}/{run.arm}", f"{other.student}/{other.arm}"
                message = f"differs in nothing from {twin}; change a field of one, or"
                problems.append((f"arms.{run.arm}", f"{name} {message} `leave_out: [{name}]`"))
                break
    return problems


def _resolved(run: ArmRun) -> tuple[object, ...]:
    recipe, stages = run.setup.recipe, run.setup.stages
    # A stage's default name is made of the names of its objectives, which the user may choose.
    plain = [(replace(s, name="", objectives={}), list(s.objectives.values())) for s in stages]
    alignments = [part.alignment for part in recipe.stages]
    made_of = str([plain, alignments, run.setup.maskings])
    return recipe.teacher, recipe.student, recipe.data, recipe.training, made_of


def _unequal_tokens(study: Study, runs: Sequence[ArmRun]) -> list[Problem]:
    wanted = next(tokens_of(run.setup) for run in runs if run.arm == study.control)
    return [
        (
            f"arms.{run.arm} ({run.student})",
            f"reads {tokens_of(run.setup):,} tokens and the control {wanted:,}; give all as many,"
            " or `equal: {seconds: ...}`",
        )
        for run in runs
        if abs(tokens_of(run.setup) - wanted) > _ROUNDING * wanted
    ]
