"""The trainings of a study: every arm for every student and seed, all checked before any runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import Problem
from ..recipe.check import check
from ..recipe.schema import EvaluationPart
from ..recipe.setup import Setup
from .held_out import held_out_task
from .schema import (
    ArmRecipe,
    Study,
    arm_recipes,
    named_values,
    parse_study,
    placed,
    refuse,
    study_problems,
)

_ROUNDING = 0.002  # stages are whole steps, so several of them read a little more than one


@dataclass(frozen=True)
class ArmRun:
    """One training: an arm, on a student, with a seed.

    Attributes:
        arm: Its name.
        student: Name of the student.
        seed: Of the training.
        raw: Its recipe.
        setup: The same, checked.
        point: Of the grid, where it is a training of the search.
        values: Of the searched fields.
        trained: Place of a training of the search that is the same; None without one.
    """

    arm: str
    student: str
    seed: int
    raw: Mapping[str, Any]
    setup: Setup
    point: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    trained: str | None = None

    @property
    def place(self) -> str:
        """Its folder in the study's."""
        if self.point is not None:
            return f"search/{self.student}/{self.arm}/{self.point}"
        return f"arms/{self.student}/{self.arm}/{self.seed}"


def prepare_study(raw: Mapping[str, Any]) -> tuple[Study, list[ArmRun]]:
    """The study and all its trainings; those that can share the teacher's signals are adjacent.

    Where values are searched, the trainings are those of the search, each with the first seed.

    Raises:
        RecipeError: With every problem of the study and of its arms, each with its place.
    """
    study = parse_study(raw)
    recipes, problems = arm_recipes(study)
    problems = [*study_problems(study), *problems]
    runs: list[ArmRun] = []
    found: list[tuple[ArmRecipe, list[Problem]]] = []
    for recipe in recipes:
        setup, of_recipe = check(recipe.raw)
        found.append((recipe, of_recipe))
        if setup:
            runs += _trainings(study, recipe, setup)
    problems += placed(found)
    problems += _identical_arms(runs)
    problems += _incomparable(runs)
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


def seeded(study: Study, run: ArmRun) -> list[ArmRun]:
    """The trainings of an arm with a recipe, one for each seed.

    Args:
        study: With their number.
        run: The training with the first seed, which may be one of the search.
    """
    seeds = [run.seed + number for number in range(study.seeds)]
    return [
        ArmRun(
            run.arm,
            run.student,
            seed,
            {**run.raw, "seed": seed},
            run.setup.with_seed(seed),
            trained=run.place if run.point is not None and seed == run.seed else None,
        )
        for seed in seeds
    ]


def _trainings(study: Study, recipe: ArmRecipe, setup: Setup) -> list[ArmRun]:
    """The trainings of a recipe: with every seed, or of the search with the first."""
    first, raw = setup.recipe.seed, {**recipe.raw, "seed": setup.recipe.seed}
    run = ArmRun(
        recipe.arm, recipe.student, first, raw, setup, point=recipe.point, values=recipe.values
    )
    return [run] if study.search else seeded(study, run)


def _identical_arms(runs: Sequence[ArmRun]) -> list[Problem]:
    """Arms that are the same training under different names."""
    problems: list[Problem] = []
    for number, run in enumerate(runs):
        for other in runs[:number]:
            if other.seed == run.seed and _resolved(other) == _resolved(run):
                name, twin = f"{run.student}/{run.arm}", f"{other.student}/{other.arm}"
                if name == twin:
                    same = f"{named_values(run.values)} and {named_values(other.values)}"
                    problems.append(("search", f"{name} is the same training with {same}"))
                    break
                message = f"differs in nothing from {twin}; change a field of one, or"
                problems.append((f"arms.{run.arm}", f"{name} {message} `leave_out: [{name}]`"))
                break
    return problems


def _incomparable(runs: Sequence[ArmRun]) -> list[Problem]:
    """Trainings of a search whose held-out losses, which decide, are not of the same thing."""
    first: dict[tuple[str, str], tuple[object, ...]] = {}
    problems: list[Problem] = []
    for run in runs:
        if run.point is None or held_out_task(run.setup) is not None:
            continue
        last, recipe = run.setup.stages[-1], run.setup.recipe
        alignment, masking = recipe.stages[-1].alignment, run.setup.maskings[-1]
        of = last.objectives, last.weights, alignment, masking
        measured = recipe.teacher, str(of)
        if first.setdefault((run.student, run.arm), measured) != measured:
            message = (
                f"{run.student}/{run.arm}: {named_values(run.values)} changes what the held-out"
                " loss measures, so losses do not say which value is best; search fields that do"
                " not change the loss, or learn a task, whose headline measure decides"
            )
            problems.append(("search", message))
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
