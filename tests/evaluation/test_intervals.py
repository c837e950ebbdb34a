"""Intervals hold the true difference as often as they say, for few seeds and few rows."""

import importlib
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from limbeck.errors import EvaluationError
from limbeck.evaluation.intervals import Redrawn, difference

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STUDIES = 500
DRAWS = 40
TOLERANCE = 3 * math.sqrt(0.95 * 0.05 / STUDIES)  # three standard errors of a simulated share


@pytest.fixture(scope="module")
def simulated():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("intervals")


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("by_seed", [0.0, 0.1, 10.0], ids=["none", "as rows", "dominant"])
def test_accuracy_is_covered(simulated, seeds, by_seed):
    shape = simulated.Shape("accuracy", seeds, 100, by_seed)
    found = simulated.coverage(shape, studies=STUDIES, draws=200)
    assert found["limbeck_coverage_ratio"] > 0.95 - TOLERANCE
    if by_seed == 10:  # then nothing is left that could make it too wide
        assert found["limbeck_coverage_ratio"] < 0.975 + TOLERANCE
        assert found["plain_coverage_ratio"] < 0.95 - TOLERANCE  # what stood here before


@pytest.mark.parametrize(
    ("metric", "seeds", "rows", "by_seed", "more"),
    [
        ("accuracy", 1, 200, 0.0, {}),
        ("accuracy", 1, 20, 0.0, {}),
        ("accuracy", 3, 20, 0.0, {}),
        ("accuracy", 10, 100, 0.1, {}),
        ("accuracy", 3, 100, 0.1, {"tasks": 4}),
        ("accuracy", 3, 100, 0.5, {"control_seeds": 2}),
        ("accuracy", 3, 100, 0.5, {"control_seeds": 1}),
        ("mean", 3, 50, 0.02, {}),
        ("f1", 3, 200, 0.1, {}),
    ],
)
def test_other_metrics_and_shapes_are_covered(simulated, metric, seeds, rows, by_seed, more):
    shape = simulated.Shape(metric, seeds, rows, by_seed, **more)
    found = simulated.coverage(shape, studies=STUDIES, draws=200)
    assert found["limbeck_coverage_ratio"] > 0.95 - TOLERANCE


def test_without_seeds_to_differ_ten_make_it_narrower_than_redrawing_them(simulated):
    found = simulated.coverage(simulated.Shape("mean", 10, 100, 0.0), studies=STUDIES, draws=200)
    assert found["limbeck_width"] < 0.9 * found["plain_width"]
    assert 0.95 - TOLERANCE < found["limbeck_coverage_ratio"] < 0.975 + TOLERANCE


def redrawn(observed, moved=None, *, rows=100, counted=False, seeds=None):
    """Scores whose redraws lie about them as given, the same for every seed."""
    observed = np.array(observed, float)
    moved = np.zeros(50) if moved is None else moved
    seeds = tuple(range(len(observed))) if seeds is None else seeds
    return {"toy": Redrawn(seeds, observed, observed[:, None] + moved, rows, counted)}


def test_where_rows_do_nothing_it_is_the_paired_t_interval():
    mine, theirs = np.array([0.71, 0.74, 0.72, 0.79]), np.array([0.70, 0.71, 0.72, 0.73])
    found = difference(redrawn(mine), redrawn(theirs))
    plain = ttest_rel(mine, theirs)
    interval = plain.confidence_interval(0.95)
    assert found.mean == pytest.approx(mine.mean() - theirs.mean())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(plain.pvalue, rel=1e-6) and found.seeds == 4


def test_one_score_for_all_seeds_is_as_uncertain_as_one_score():
    """A task that is scored once beside several fine-tunings: copies say nothing more."""
    one = redrawn([0.8], rows=20, counted=True)
    four = redrawn([0.8] * 4, rows=20, counted=True)
    copied = {"toy": replace(four["toy"], repeated=True)}
    known, same, many = (difference(some, some) for some in (one, copied, four))
    assert (same.low, same.high) == pytest.approx((known.low, known.high))
    assert many.high - many.low < 0.6 * (same.high - same.low)


def test_of_one_seed_it_is_the_t_interval_of_the_rows():
    chance = np.random.default_rng(0)
    numbers = chance.normal(0.1, 0.3, 30)
    drawn = chance.integers(0, 30, (20_000, 30))
    moved = numbers[drawn].mean(1) - numbers.mean()
    control = redrawn([0.0], np.zeros(20_000), rows=30)
    found = difference(redrawn([numbers.mean()], moved, rows=30), control)
    half = t.isf(0.025, 29) * numbers.std(ddof=1) / math.sqrt(30)
    assert found.high - found.mean == pytest.approx(half, rel=0.02)
    assert found.mean - found.low == pytest.approx(half, rel=0.02)
    assert found.seeds == 1


def test_p_is_one_minus_the_level_of_the_interval_that_ends_at_zero():
    moved = np.random.default_rng(0).normal(0, 0.03, 50)
    scores, control = np.array([0.3, 0.5, 0.7]), redrawn([0.1, 0.2, 0.3])
    found = difference(redrawn(scores, moved), control)
    shifted = difference(redrawn(scores - found.low, moved), control)
    assert shifted.low == pytest.approx(0.0) and shifted.p == pytest.approx(0.05)
    level = difference(redrawn(scores - found.mean, moved), control)
    assert level.mean == pytest.approx(0.0) and level.p == pytest.approx(1.0)


def test_what_a_seed_does_to_both_models_cancels_out():
    lucky = np.array([0.3, 0.5, 0.7])
    found = difference(redrawn(lucky + 0.01, rows=100_000), redrawn(lucky, rows=100_000))
    assert (found.low, found.high) == pytest.approx((0.01, 0.01), abs=2e-5) and found.p < 1e-9
    # Other seeds, or a control with fewer trainings so far, have none to stand beside.
    for others in (redrawn(lucky, seeds=(7, 8, 9)), redrawn(lucky[:2]), redrawn(lucky[1:2])):
        apart = difference(redrawn(lucky + 0.01), others)
        assert apart.low < -0.01 < 0.01 < apart.high and apart.p > 0.05


def test_equal_answers_on_few_rows_are_not_proof_of_equality():
    same = difference(redrawn([0.9], rows=20, counted=True), redrawn([0.9], rows=20, counted=True))
    assert same.p == 1.0 and same.low == -same.high and 0.05 < same.high < 0.15
    many = difference(
        redrawn([0.9], rows=5000, counted=True), redrawn([0.9], rows=5000, counted=True)
    )
    assert many.high < 0.001
    one = difference(redrawn([1.0], rows=1, counted=True), redrawn([0.0], rows=1, counted=True))
    assert one.low < 0 < 1 < one.high


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("seeds", [1, 3])
def test_rows_that_are_all_alike_are_not_proof_either(counted, seeds):
    """Perfect ROUGE-L or Spearman on 12 rows: no redraw of them shows another score."""
    perfect = redrawn([1.0] * seeds, rows=12, counted=counted)
    same = difference(perfect, perfect)
    assert same.p == 1.0 and 0.05 < same.high == -same.low < 0.2
    other = difference(perfect, redrawn([0.9] * seeds, rows=12, counted=counted))
    assert other.low < 0.1 < other.high and 0.01 < other.p < 0.3
    more = redrawn([1.0] * seeds, rows=1200, counted=counted)
    assert difference(more, more).high < 0.01 * same.high * 1.5


def test_scores_that_vary_by_row_are_not_widened():
    moved = np.random.default_rng(0).normal(0, 0.1, 1000)
    found = difference(redrawn([0.5], moved, rows=30), redrawn([0.4], np.zeros(1000), rows=30))
    half = t.isf(0.025, 29) * moved.std() * math.sqrt(30 / 29)
    assert found.high - found.mean == pytest.approx(half)


@pytest.mark.parametrize("gap", [5.6e-17, -1.1e-16, 1e-15])
def test_a_difference_of_rounding_is_none(gap):
    one, other = np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 0.3]) + gap
    for rows in (5, 10_000):
        found = difference(redrawn(one, rows=rows), redrawn(other, rows=rows))
        assert found.mean == 0.0 and found.p == 1.0
    by_sum = difference(redrawn([0.1 + 0.2]), redrawn([0.3]))
    assert by_sum.p == 1.0 and by_sum.mean == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers(value):
    whole, broken = redrawn([0.5, 0.6]), redrawn([0.5, value])
    for pair in ((whole, broken), (broken, whole), (broken, broken)):
        with pytest.raises(EvaluationError, match="toy: of the scores .* some are no numbers"):
            difference(*pair)
    moved = np.zeros(50)
    moved[7] = value
    with pytest.raises(EvaluationError, match="some are no numbers"):
        difference(redrawn([0.5], moved), redrawn([0.5]))


def test_seeds_are_paired_by_number_and_not_by_place():
    lucky = np.array([0.3, 0.5, 0.7])
    straight = difference(redrawn(lucky + 0.01), redrawn(lucky))
    turned = difference(redrawn(lucky + 0.01), redrawn(lucky[::-1], seeds=(2, 1, 0)))
    assert turned == pytest.approx(straight)
    # Of several tasks, too, each may have its scores in an order of its own.
    chance = np.random.default_rng(0)
    moved = chance.normal(0, 0.02, (2, 3, 50))
    tasks = [redrawn(lucky + n, moved[n])["toy"] for n in (0, 1)]
    other = redrawn((lucky + 1)[::-1], moved[1][::-1], seeds=(2, 1, 0))["toy"]
    control = {"a": redrawn([0.1, 0.2, 0.4])["toy"], "b": redrawn([0.1, 0.2, 0.4])["toy"]}
    expected = difference(dict(zip("ab", tasks, strict=True)), control)
    assert difference({"a": tasks[0], "b": other}, control) == pytest.approx(expected)


def test_trainings_that_the_other_lacks_are_kept_in_the_mean():
    lucky = np.array([0.3, 0.5, 0.7])
    found = difference(redrawn(lucky), redrawn(lucky[:2]))
    assert found.mean == pytest.approx(0.5 - 0.4) and found.seeds == 3


def test_tasks_of_different_seeds_are_refused():
    both = {"a": redrawn([0.1, 0.2])["toy"], "b": redrawn([0.1, 0.2], seeds=(0, 2))["toy"]}
    with pytest.raises(EvaluationError, match=r"different seeds, \[\(0, 1\), \(0, 2\)\]"):
        difference(both, both)


def test_seeds_that_agree_by_chance_leave_what_the_rows_tell():
    """Two seeds of one score have no variance; other rows would still differ."""
    chance = np.random.default_rng(0)
    scores = redrawn([0.5, 0.5], chance.normal(0, 0.02, (2, 500)))
    found = difference(scores, redrawn([0.5, 0.5], np.zeros((2, 500))))
    assert found.high > 1.9 * 0.02 / math.sqrt(2)


def by_loops(model, control):
    """The half-width of an interval, a number at a time."""
    moved, unseen, of_rows = [], 0.0, []
    for scores in (model, control):
        seeds = range(len(next(iter(scores.values())).seeds))
        moved.append([[0.0] * DRAWS for _ in seeds])
        for task in scores.values():
            for seed in seeds:
                middle = statistics.mean(task.redrawn[seed])
                for draw, value in enumerate(task.redrawn[seed]):
                    further = (value - middle) * math.sqrt(task.rows / (task.rows - 1))
                    moved[-1][seed][draw] += further / len(scores)

    def over_seeds(tasks):
        return [statistics.mean(column) for column in zip(*tasks, strict=True)]

    for name, mine in model.items():
        both = (over_seeds(mine.redrawn), over_seeds(control[name].redrawn))
        apart = statistics.pvariance([a - b for a, b in zip(*both, strict=True)])
        apart *= mine.rows / (mine.rows - 1)
        of_rows.append((apart, mine.rows - 1))
        half_rows = 1 / (mine.rows + 2) ** 2 / min(len(mine.seeds), len(control[name].seeds))
        unseen += (half_rows if mine.counted else max(0.0, half_rows - apart)) / len(model) ** 2
    freedom = sum(v for v, _ in of_rows) ** 2 / sum(v**2 / f for v, f in of_rows)
    observed = [
        [statistics.mean(seed) for seed in zip(*(t.observed for t in s.values()), strict=True)]
        for s in (model, control)
    ]
    sides = [(observed[0], moved[0]), (observed[1], moved[1])]
    rows = statistics.pvariance([a - b for a, b in zip(*map(over_seeds, moved), strict=True)])
    if len(observed[0]) == len(observed[1]):  # seeds are paired
        scores = [a - b for a, b in zip(*observed, strict=True)]
        of_seeds = [
            [a - b for a, b in zip(*pair, strict=True)] for pair in zip(*moved, strict=True)
        ]
        sides = [(scores, of_seeds)]
    parts, interaction = [], 0.0
    for scores, of_seeds in sides:
        known, those = (scores, of_seeds) if len(scores) > 1 else sides[0]
        others, middle = len(known) - 1, over_seeds(those)
        parts.append((statistics.variance(known) / len(scores), others))
        for seed in those:
            own = [a - b for a, b in zip(seed, middle, strict=True)]
            interaction += statistics.pvariance(own) / others / len(scores)
    squares = [(max(0.0, rows - interaction), freedom), *parts]
    wide = sum(part * t.isf(0.025, f) ** 2 for part, f in squares)
    return math.sqrt(max(wide, (rows + unseen) * t.isf(0.025, freedom) ** 2))


@pytest.mark.parametrize("seeds", [(3, 3), (3, 2), (3, 1)], ids=str)
@pytest.mark.parametrize("noise", [0.0002, 0.005, 0.05])
def test_intervals_are_those_of_plain_loops(seeds, noise):
    """Two tasks, of which only one is counted, with rows that move all seeds and some alone."""
    chance = np.random.default_rng(3)
    sides = []
    for number in seeds:
        tasks = {}
        for name, rows, counted in (("a", 12, True), ("b", 40, False)):
            observed = chance.normal(0.7, noise, number)
            moved = chance.normal(0, 0.02, DRAWS) + chance.normal(0, 0.01, (number, DRAWS))
            tasks[name] = redrawn(observed, moved, rows=rows, counted=counted)["toy"]
        sides.append(tasks)
    found = difference(*sides)
    half = by_loops(*sides)
    assert (found.mean - found.low, found.high - found.mean) == pytest.approx((half, half))
