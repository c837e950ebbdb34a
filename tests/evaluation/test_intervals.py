"""Intervals hold the true difference as often as they say, for few seeds and few rows."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from limbeck.evaluation.intervals import Redrawn, difference

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STUDIES = 500
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
    found = difference(redrawn(lucky + 0.01), redrawn(lucky))
    assert (found.low, found.high) == pytest.approx((0.01, 0.01)) and found.p == 0.0
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


def test_seeds_that_agree_by_chance_leave_what_the_rows_tell():
    """Two seeds of one score have no variance; other rows would still differ."""
    chance = np.random.default_rng(0)
    scores = redrawn([0.5, 0.5], chance.normal(0, 0.02, (2, 500)))
    found = difference(scores, redrawn([0.5, 0.5], np.zeros((2, 500))))
    assert found.high > 1.9 * 0.02 / math.sqrt(2)
