"""Calibration against plain loops, and the temperature that mends it."""

import math

import numpy as np
import pytest

from limbeck.evaluation.calibration import calibration, fitted_temperature

BINS = 15  # as Guo et al. have them


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_measures_are_those_of_plain_loops(temperature):
    chance = np.random.default_rng(0)
    logits, right = chance.normal(size=(200, 4)) * 2, chance.integers(0, 4, 200)
    found = calibration(logits, right, temperature=temperature)
    bins: dict[int, list[tuple[float, bool]]] = {}
    brier = nll = 0.0
    for row, label in zip(logits, right, strict=True):
        p = softmax([value / temperature for value in row])
        brier += sum((q - (n == label)) ** 2 for n, q in enumerate(p)) / 200
        nll -= math.log(p[label]) / 200
        place = min(int(max(p) * BINS), BINS - 1)
        bins.setdefault(place, []).append((max(p), p.index(max(p)) == label))
    ece = sum(
        abs(np.mean([p for p, _ in some]) - np.mean([hit for _, hit in some])) * len(some) / 200
        for some in bins.values()
    )
    assert found.ece == pytest.approx(ece) and found.brier == pytest.approx(brier)
    assert found.nll == pytest.approx(nll)


def test_the_temperature_that_made_logits_too_sure_is_found():
    chance = np.random.default_rng(1)
    true = chance.normal(size=(20_000, 3))
    right = np.array([chance.choice(3, p=softmax(row)) for row in true])
    assert fitted_temperature(true * 2.5, right) == pytest.approx(2.5, rel=0.05)
    sure = calibration(true * 2.5, right)
    mended = calibration(true * 2.5, right, temperature=2.5)
    assert mended.ece < 0.02 < sure.ece and mended.brier < sure.brier


def test_perfect_and_certain_answers_stay_finite():
    logits, right = np.array([[50.0, -50.0], [-50.0, 50.0]]), np.array([0, 1])
    assert fitted_temperature(logits, right) == 1.0  # no temperature is the best one
    assert calibration(logits, right).ece == pytest.approx(0, abs=1e-6)
    assert fitted_temperature(logits, 1 - right) == pytest.approx(math.exp(3), rel=0.01)  # the most
