"""How certain a difference between two models is, for other test rows and for other seeds.

A model's score depends on the rows, on the seed, and on the interaction of the two. Redrawn
rows show the variance of the first and the last, the scores of several seeds that of the second
and the last; what both show is counted once. The variance over n redrawn rows is too small by
n/(n-1), and that over few seeds is uncertain, so each part is multiplied by the t quantile of its
own degrees of freedom. Half-widths of the parts are added in squares, which for independent
normal parts covers the true difference at least as often as stated.

Source: Banerjee 1960, Sankhya 22, 357; the parts, two-way random effects, Searle, Casella and
McCulloch 1992, Variance Components; proportions of few rows, Agresti and Min 2005, Statistics
in Medicine 24, 729; n/(n-1), Efron and Tibshirani 1993. `benchmarks/intervals.py` simulates it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import brentq
from scipy.special import stdtrit

from ..errors import EvaluationError
from ..reports.study_results import Gap

_LEAST_P = 1e-12
_ROUNDING = 1e-12  # of scores of 1: smaller differences come from the order of summation


@dataclass(frozen=True)
class Redrawn:
    """The scores of a model on a task, one for each seed that it was trained with.

    Attributes:
        seeds: Their numbers.
        observed: On the test rows themselves.
        redrawn: On redrawn rows; every model of a comparison on the same ones.
        rows: How many test rows there are.
        counted: Whether each row is either right or wrong, and the score is computed from counts.
        repeated: Whether one score stands for all seeds: of a training that is scored once, beside
            tasks on which it is fine-tuned with each of them.
    """

    seeds: tuple[int, ...]
    observed: Float[ndarray, " seeds"]
    redrawn: Float[ndarray, "seeds draws"]
    rows: int
    counted: bool
    repeated: bool = False

    @property
    def scores(self) -> int:
        """How many of the scores were measured."""
        return 1 if self.repeated else len(self.seeds)


class _Variances(NamedTuple):
    """Variances of the difference: of its parts, rows alone first, and of all effects of rows.

    Attributes:
        parts: Of rows alone, then of the seeds of each side.
        freedoms: Degrees of freedom of the estimate of each part.
        rows: With the seeds fixed; it has the degrees of freedom of the first part.
    """

    parts: list[float]
    freedoms: list[float]
    rows: float


class _Side(NamedTuple):
    """Means over tasks of each seed, and how far redrawn rows move them."""

    observed: Float[ndarray, " seeds"]
    moved: Float[ndarray, "seeds draws"]


def difference(model: Mapping[str, Redrawn], control: Mapping[str, Redrawn]) -> Gap:
    """The difference of two models' means over tasks, with its 95 % interval.

    Where both have the same seeds, in whatever order, seeds are paired: with one seed the arms of
    a study read the same text in the same order, so that luck with it cancels out, as easy rows
    do. Otherwise no seeds are paired, and each mean is over all seeds of its model.

    Args:
        model: Its scores by task.
        control: Those of the same tasks, on the same redraws.

    Raises:
        EvaluationError: A score is not a number, or the tasks of a model are of different seeds.
    """
    model, control = _by_seed(model), _by_seed(control)
    sides = _sides(model, control)
    mean = float(sum(side.observed.mean() for side in sides))
    largest = max(float(np.abs(side.observed).max()) for side in sides)
    if abs(mean) <= _ROUNDING * max(1.0, largest):
        mean = 0.0
    found = _variances(sides, model, control)
    p = 1.0 if mean == 0 else 0.0
    if mean != 0 and _beyond(_LEAST_P, found, abs(mean)) > 0:
        p = float(brentq(_beyond, _LEAST_P, 1.0, args=(found, abs(mean))))
    half = _beyond(0.05, found, 0.0)
    seeds = max(len(side.observed) for side in sides)
    return Gap(mean, mean - half, mean + half, p, seeds)


def _by_seed(scores: Mapping[str, Redrawn]) -> dict[str, Redrawn]:
    """The same with seeds ascending, the same order for both models and all tasks."""
    ordered = {}
    for task, found in scores.items():
        if not (np.isfinite(found.observed).all() and np.isfinite(found.redrawn).all()):
            raise EvaluationError(
                f"{task}: of the scores {found.observed.tolist()} or of their redraws some are no"
                " numbers, so there is no difference to compute; train or evaluate that arm again"
            )
        order = np.argsort(found.seeds)
        seeds = tuple(found.seeds[place] for place in order)
        ordered[task] = replace(
            found, seeds=seeds, observed=found.observed[order], redrawn=found.redrawn[order]
        )
    if len(kinds := {found.seeds for found in ordered.values()}) > 1:
        raise EvaluationError(
            f"the tasks of a model are scored for different seeds, {sorted(kinds)}; evaluate all"
            " of its trainings on all tasks"
        )
    return ordered


def _sides(model: Mapping[str, Redrawn], control: Mapping[str, Redrawn]) -> list[_Side]:
    """The differences of paired seeds, or the model and the negative of its control."""
    mine, theirs = (_over_tasks([scores[task] for task in model]) for scores in (model, control))
    if all(model[task].seeds == control[task].seeds for task in model):
        return [_Side(mine.observed - theirs.observed, mine.moved - theirs.moved)]
    return [mine, _Side(-theirs.observed, -theirs.moved)]


def _over_tasks(scores: Sequence[Redrawn]) -> _Side:
    return _Side(
        np.mean([of_task.observed for of_task in scores], axis=0),
        np.mean([_moved(of_task) for of_task in scores], axis=0),
    )


def _moved(scores: Redrawn) -> Float[ndarray, "seeds draws"]:
    """How far redrawn rows move each score from its mean, scaled to what other rows would do."""
    moved = scores.redrawn - scores.redrawn.mean(1, keepdims=True)
    return np.array(moved * np.sqrt(scores.rows / max(1, scores.rows - 1)))


def _variances(
    sides: Sequence[_Side], model: Mapping[str, Redrawn], control: Mapping[str, Redrawn]
) -> _Variances:
    freedom, unseen = _of_rows(model, control)
    rows = float(np.sum([side.moved.mean(0) for side in sides], axis=0).var())
    longest = max(sides, key=lambda side: len(side.observed))
    parts, freedoms, both = [], [], 0.0
    for side in sides if len(longest.observed) > 1 else ():
        # A single seed has no variance: the one of the other side is taken instead.
        known, number = (side if len(side.observed) > 1 else longest), len(side.observed)
        others = len(known.observed) - 1
        parts.append(float(known.observed.var(ddof=1)) / number)
        freedoms.append(float(others))
        both += float((known.moved - known.moved.mean(0)).var(1).sum()) / others / number
    return _Variances([max(0.0, rows - both), *parts], [freedom, *freedoms], rows + unseen)


def _of_rows(model: Mapping[str, Redrawn], control: Mapping[str, Redrawn]) -> tuple[float, float]:
    """Degrees of freedom of all tasks' rows, and the variance that no redraw shows.

    Two models that are right on the same few rows seem to differ by exactly zero. Half a row added
    on which only one is right, and half a row on which only the other is, accounts for what the
    few rows cannot show. Scores that are not counts show their own variance, unless all rows are
    the same (all perfect, for example): then the same amount is taken, as no row changes such a
    mean by more than 1 either.
    """
    unseen, variances, freedoms = 0.0, list[float](), list[float]()
    for task in model:
        mine, theirs = model[task], control[task]
        variance = float((_moved(mine).mean(0) - _moved(theirs).mean(0)).var())
        variances.append(variance)
        freedoms.append(max(1.0, mine.rows - 1.0))
        half_rows = 1 / (mine.rows + 2) ** 2 / min(mine.scores, theirs.scores)
        unseen += half_rows if mine.counted else max(0.0, half_rows - variance)
    spent = sum(v**2 / freedom for v, freedom in zip(variances, freedoms, strict=True))
    freedom = sum(variances) ** 2 / spent if spent > 0 else min(freedoms)
    return freedom, unseen / len(model) ** 2


def _beyond(level: float, found: _Variances, distance: float) -> float:
    """How much the half-width at a level exceeds a distance; at least what rows alone give."""
    quantiles = [stdtrit(freedom, level / 2) ** 2 for freedom in found.freedoms]
    squares = [part * quantile for part, quantile in zip(found.parts, quantiles, strict=True)]
    return float(max(sum(squares), found.rows * quantiles[0]) ** 0.5 - distance)
