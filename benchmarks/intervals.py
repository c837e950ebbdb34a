"""How often the 95 % interval of a difference contains the true difference, in simulated studies.

Two arms answer the same test rows; rows, seeds and chance decide their answers. For every shape of
study the true difference is known. The interval of `limbeck compare` is compared with a plain one,
which redraws rows and seeds in the same way and takes the middle 95 % of the redraws.

    python benchmarks/intervals.py [--studies 2000] [--draws 400]
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.stats import norm, rankdata

from limbeck.evaluation.intervals import Redrawn, difference

OF_ROWS = 2.5  # variance of the difficulty of rows; that of chance in each answer is 1
SKILLS = (1.3, 1.1)  # the arm and its control; as accuracies 90.3 % and 86.4 %
LABELLED = 1 / 3  # share of rows with the label of F1
RANKED_STUDIES, RANKED_DRAWS = 400, 200  # ranking is slow


@dataclass(frozen=True)
class Shape:
    """A study to simulate.

    Attributes:
        metric: One of `METRICS`.
        seeds: Number of trainings of the arm.
        rows: Number of rows of every task.
        by_seed: Variance of the effect of a seed on an arm; that of chance in each answer is 1.
        control_seeds: Number of trainings of the control; None for as many as the arm has.
        tasks: Number of tasks in the mean.
    """

    metric: str
    seeds: int
    rows: int
    by_seed: float
    control_seeds: int | None = None
    tasks: int = 1

    @property
    def named(self) -> str:
        """The shape as a row of the table."""
        seeds = f"{self.seeds}" + (f" and {self.control_seeds}" if self.control_seeds else "")
        tasks = f"{self.tasks} × " if self.tasks > 1 else ""
        return f"{self.metric:<8} {seeds:>7} {tasks + str(self.rows):>7} {self.by_seed:>8g}"


SHAPES = [
    *(
        Shape("accuracy", seeds, rows, by_seed)
        for seeds in (1, 2, 3, 5, 10)
        for rows in (50, 200)
        for by_seed in (0.0, 0.03, 0.5)
        if seeds > 1 or by_seed == 0
    ),
    Shape("accuracy", 1, 20, 0.0),
    Shape("accuracy", 3, 20, 0.0),
    Shape("accuracy", 3, 200, 0.03, control_seeds=2),
    Shape("accuracy", 3, 200, 0.5, control_seeds=2),
    Shape("accuracy", 3, 200, 0.03, tasks=4),
    *(
        Shape(metric, 3, 200, by_seed)
        for metric in ("mean", "f1", "spearman")
        for by_seed in (0.0, 0.03, 0.5)
    ),
]


def accuracy(said: ndarray, _: ndarray, weights: ndarray) -> ndarray:
    """Share of rows whose answer is above 0: studies x seeds x draws."""
    return np.asarray((said > 0).astype(np.float32) @ weights.T / weights[0].sum())


def mean(said: ndarray, _: ndarray, weights: ndarray) -> ndarray:
    """Mean of one number for each row, like ROUGE-L."""
    return np.asarray(said @ weights.T / weights[0].sum())


def f1(said: ndarray, expected: ndarray, weights: ndarray) -> ndarray:
    """F1 of a label that some of the rows have."""
    label, right = expected[:, None] < norm.ppf(LABELLED), said > 0
    found, wrong = ((cells.astype(np.float32) @ weights.T) for cells in (label & right, ~right))
    return np.asarray(2 * found / (2 * found + wrong))


def spearman(said: ndarray, expected: ndarray, weights: ndarray) -> ndarray:
    """Rank correlation with a number that each row has."""
    found = []
    for counts in weights.astype(int):
        rows = np.repeat(np.arange(len(counts)), counts)
        sides = [rankdata(side[..., rows], axis=-1) for side in (said, expected[:, None])]
        left, right = (side - side.mean(-1, keepdims=True) for side in sides)
        size = np.sqrt((left**2).sum(-1) * (right**2).sum(-1))
        found.append((left * right).sum(-1) / size)
    return np.stack(found, axis=-1)


METRICS: dict[str, Callable[[ndarray, ndarray, ndarray], ndarray]] = {
    "accuracy": accuracy,
    "mean": mean,
    "f1": f1,
    "spearman": spearman,
}


def said_by(shape: Shape, studies: int, chance: np.random.Generator) -> tuple[list[ndarray], ...]:
    """Answers of both arms for every task, studies x seeds x rows, and true values of the rows."""
    size = math.sqrt(1 + OF_ROWS + shape.by_seed)
    counts = shape.seeds, shape.control_seeds or shape.seeds
    lucky = [math.sqrt(shape.by_seed) * chance.normal(size=(studies, n, 1)) for n in counts]
    arms, rows = [], []
    for _ in range(shape.tasks):
        hard = chance.normal(size=(studies, 1, shape.rows))
        for skill, of_seed in zip(SKILLS, lucky, strict=True):
            noise = chance.normal(size=(studies, of_seed.shape[1], shape.rows))
            if shape.metric == "spearman":
                said = skill * np.exp(of_seed) * hard + noise
            else:
                said = skill * size + of_seed + math.sqrt(OF_ROWS) * hard + noise
            arms.append(said.astype(np.float32))
        own = hard[:, 0] if shape.metric == "spearman" else chance.normal(size=hard[:, 0].shape)
        rows.append(own.astype(np.float32))
    return arms, rows


def true_difference(shape: Shape) -> float:
    """The difference over infinitely many rows and seeds."""
    lucky = math.sqrt(shape.by_seed) * norm.ppf((np.arange(4000) + 0.5) / 4000)
    size, found = math.sqrt(1 + OF_ROWS + shape.by_seed), []
    for skill in SKILLS:
        right = norm.cdf((skill * size + lucky) / math.sqrt(1 + OF_ROWS))
        linear = skill * np.exp(lucky)
        linear = linear / np.sqrt(1 + linear**2)
        of_seed = {
            "accuracy": right,
            "mean": skill * size + lucky,
            "f1": 2 * LABELLED * right / (2 * LABELLED * right + 1 - right),
            "spearman": 6 / math.pi * np.arcsin(linear / 2),
        }
        found.append(float(np.mean(of_seed[shape.metric])))
    return found[0] - found[1]


Study = tuple[Mapping[str, Redrawn], Mapping[str, Redrawn]]


def simulate(shape: Shape, *, studies: int, draws: int, seed: int = 0) -> list[Study]:
    """The scores of both arms by task in many studies, all on the same redraws of the rows."""
    chance = np.random.default_rng(seed)
    arms, rows = said_by(shape, studies, chance)
    drawn = chance.multinomial(shape.rows, [1 / shape.rows] * shape.rows, size=draws)
    weights = np.concatenate([np.ones((1, shape.rows)), drawn]).astype(np.float32)
    score = METRICS[shape.metric]
    found = [score(arm, rows[place // 2], weights).astype(float) for place, arm in enumerate(arms)]

    def of_arm(study: int, arm: int) -> dict[str, Redrawn]:
        return {
            str(task): Redrawn(
                seeds=tuple(range(scores.shape[1])),
                observed=scores[study, :, 0],
                redrawn=scores[study, :, 1:],
                rows=shape.rows,
                counted=shape.metric in ("accuracy", "f1"),
            )
            for task, scores in enumerate(found[arm::2])
        }

    return [(of_arm(study, 0), of_arm(study, 1)) for study in range(studies)]


def plain_interval(study: Study, chance: np.random.Generator) -> tuple[float, float]:
    """The middle 95 % of redraws of rows and of seeds, the same for all tasks."""
    chosen: dict[tuple[int, ...], ndarray] = {}
    sides = []
    for arm in study:
        tasks = []
        for scores in arm.values():
            shape = scores.redrawn.shape
            if shape not in chosen:
                chosen[shape] = chance.integers(0, shape[0], shape)
            tasks.append(np.take_along_axis(scores.redrawn, chosen[shape], axis=0).mean(0))
        sides.append(np.mean(tasks, axis=0))
    low, high = np.quantile(sides[0] - sides[1], [0.025, 0.975])
    return float(low), float(high)


def coverage(shape: Shape, *, studies: int, draws: int, seed: int = 0) -> dict[str, float]:
    """Shares of studies whose interval contains the true difference, and the median widths."""
    if shape.metric == "spearman":
        studies, draws = min(studies, RANKED_STUDIES), min(draws, RANKED_DRAWS)
    true, chance = true_difference(shape), np.random.default_rng(seed)
    held: dict[str, list[bool]] = {"plain": [], "limbeck": []}
    widths: dict[str, list[float]] = {"plain": [], "limbeck": []}
    for study in simulate(shape, studies=studies, draws=draws, seed=seed):
        found = difference(*study)
        ends = {"plain": plain_interval(study, chance), "limbeck": (found.low, found.high)}
        for name, (low, high) in ends.items():
            held[name].append(low <= true <= high)
            widths[name].append(high - low)
    shares = {f"{name}_coverage_ratio": float(np.mean(these)) for name, these in held.items()}
    wide = {f"{name}_width": float(np.median(these)) for name, these in widths.items()}
    return {**shares, **wide, "studies": studies}


def main() -> None:
    """Print for every shape the share of studies whose interval contains the true difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=400)
    given = parser.parse_args()
    print("metric     seeds    rows  by seed    plain  limbeck   width of both")
    rows = []
    for shape in SHAPES:
        found = coverage(shape, studies=given.studies, draws=given.draws)
        shares = [100 * found[f"{name}_coverage_ratio"] for name in ("plain", "limbeck")]
        wide = [100 * found[f"{name}_width"] for name in ("plain", "limbeck")]
        print(f"{shape.named} {shares[0]:7.1f}% {shares[1]:7.1f}%   {wide[0]:.1f} {wide[1]:.1f}")
        rows.append({"shape": shape.named.split(), **found})
    print(json.dumps({"benchmark": "intervals", "rows": rows}))


if __name__ == "__main__":
    main()
