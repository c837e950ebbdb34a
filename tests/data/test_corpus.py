"""Shares of many sources; order and held-out text are tested in test_data.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data.corpus import SeededOrder
from limbeck.errors import DataError


def drawn(weights, *, places=1000, size=3):
    """How often each source occurs."""
    order = SeededOrder((size,) * len(weights), tuple(weights), seed=0)
    return np.bincount(order.indices(0, places) // size, minlength=len(weights))


@settings(max_examples=60, deadline=None)
@given(weights=st.lists(st.floats(0.05, 1.0), min_size=1, max_size=40))
def test_every_share_is_right_within_one_place(weights):
    shares = np.array(weights) / sum(weights) * 1000
    assert (np.abs(drawn(weights) - shares) <= 1).all()


@pytest.mark.parametrize("count", [7, 60, 300, 600, 1000])
def test_equal_sources_are_equally_frequent(count):
    times = drawn([1.0] * count)
    assert times.sum() == 1000 and times.max() - times.min() <= 1


@pytest.mark.parametrize("weights", [[1.0] * 70, [1.0, 1.0, 1.0], [0.7, 0.2, 0.1, 0.0015]])
def test_no_source_is_always_rounded_up(weights):
    times = drawn(weights, places=97_000, size=5000)
    assert np.abs(times - np.array(weights) / sum(weights) * 97_000).max() <= 1


def test_the_smallest_source_occurs_once_in_a_thousand_places():
    assert list(drawn([1.0, 1e-300])) == [999, 1]
    times = drawn([1.0] * 300 + [1e-9] * 500)
    assert times.sum() == 1000 and times.min() == 1 and (times[300:] == 1).all()
    assert (drawn([1.0] * 999 + [1e-9]) == 1).all()


def test_very_large_weights_are_shares_too():
    assert list(drawn([1e308, 1e308])) == [500, 500]


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0])
def test_invalid_weights(weight):
    with pytest.raises(DataError, match="finite number above 0"):
        SeededOrder((5, 5), (1.0, weight), 0)


def test_too_many_sources():
    with pytest.raises(DataError, match="1001 sources are more than 1000; join"):
        SeededOrder((5,) * 1001, (1.0,) * 1001, 0)


def test_a_distant_place_needs_none_of_those_before_it():
    order = SeededOrder((70, 30), (2.0, 1.0), seed=4)
    far = 10**9 + 123
    assert (order.indices(far, 50)[20:] == order.indices(far + 20, 30)).all()
    epoch = SeededOrder((70,), (1.0,), seed=4).indices(70 * 10**7, 70)
    assert (np.sort(epoch) == np.arange(70)).all()


def test_a_permutation_is_computed_once_however_many_sources_there_are(monkeypatch):
    """A corpus in many files costs a batch no more than one in a single file."""
    computed = []
    real = np.random.default_rng

    def counted(seed):
        computed.append(seed)
        return real(seed)

    monkeypatch.setattr(np.random, "default_rng", counted)
    sources = 60
    order = SeededOrder((300,) * sources, (1.0,) * sources, seed=987)
    for number in range(40):
        order.indices(number * 50, 50)
    permutations = [seed for seed in computed if seed[1] == 1]
    assert len(permutations) == len(set(permutations)) == sources
