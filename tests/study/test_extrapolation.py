"""The law through short trainings: exact laws are found, and noise tells nothing."""

import numpy as np
import pytest

from limbeck.study.extrapolation import extrapolate

SHARES = [0.02, 0.02, 0.04, 0.04, 0.08, 0.08]


@pytest.mark.parametrize("rate", [0.05, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("floor", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("scale", [0.01, 2.0])
def test_an_exact_law_is_found(rate, floor, scale):
    values = [floor + scale * share**-rate for share in SHARES]
    found = extrapolate(SHARES, values)
    assert found.value == pytest.approx(floor + scale, rel=1e-3, abs=1e-3 * max(values))
    assert found.falls and found.high - found.low < 2e-3 * max(values)


def test_the_interval_contains_the_whole_training_about_as_often_as_it_says():
    generator, inside, widths = np.random.default_rng(0), 0, []
    for _ in range(60):
        rate = generator.uniform(0.2, 1.0)
        noise = generator.normal(0, 0.02, len(SHARES) + 1)
        values = [1 + 0.3 * s**-rate + e for s, e in zip(SHARES, noise[:-1], strict=True)]
        found = extrapolate(SHARES, values)
        inside += found.low <= 1.3 + noise[-1] <= found.high
        widths.append(found.high - found.low)
    assert inside >= 52  # of 57 that are meant
    assert np.median(widths) < 3  # and it is not merely endless


def test_noise_does_not_fall():
    generator = np.random.default_rng(1)
    falling = [
        extrapolate(SHARES, list(5 + generator.normal(0, 0.1, len(SHARES)))).falls
        for _ in range(60)
    ]
    assert sum(falling) <= 9  # a test at 5 % of laws whose rate is chosen, too


def test_values_that_rise_have_no_law():
    found = extrapolate(SHARES, [1.0, 1.1, 2.0, 2.1, 3.0, 3.1])
    assert not found.falls and found.low < 2.05 < found.high
    assert extrapolate(SHARES, [0.0, 0.1, 0.0, 0.1, 0.9, 0.9]).low == 0.0


@pytest.mark.parametrize(
    ("shares", "values"),
    [
        ([0.02, 0.04, 0.08], [3.0, 2.0, 1.0]),
        ([0.02, 0.02, 0.04, 0.04], [3.0, 3.0, 2.0, 2.0]),
        (SHARES, [3.0, 3.0, 2.0, float("nan"), 1.0, 1.0]),
    ],
)
def test_too_little_is_said(shares, values):
    assert extrapolate(shares, values) is None


def test_a_floor_is_never_below_nothing():
    found = extrapolate(SHARES, [share**-0.2 - 1.2 for share in SHARES])
    assert found.floor == 0.0 and found.low >= 0
