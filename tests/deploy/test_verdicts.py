"""What is kept of a file, and how weights are rounded on this processor."""

import math
import platform
from dataclasses import replace

import numpy as np
import pytest
import torch

from limbeck.deploy.compare import _correlation, _Sums
from limbeck.deploy.results import (
    Candidate,
    Difference,
    Scored,
    Times,
    default_format,
    kept_share,
    verdict_of,
)
from limbeck.deploy.source import Source
from limbeck.reports.task_results import Interval
from limbeck.system.int8_range import int8_range

SAME = Difference(0.1, 0.01, 0.75, None, {"order": 2}, 0.0)


def scored(task: str, score: float) -> Scored:
    return Scored(task, "accuracy", 10, Interval(score, score - 0.1, score + 0.1))


def test_the_worst_task_decides():
    reference = [scored("a", 0.8), scored("b", 0.5)]
    share, of = kept_share(SAME, [scored("a", 0.8), scored("b", 0.4)], reference)
    assert share == pytest.approx(0.8)
    assert of == "accuracy on b"
    assert kept_share(SAME, [scored("a", 0.1)], [scored("a", 0.0)])[0] == 1
    assert kept_share(SAME, [scored("a", -0.1)], [scored("a", 0.0)])[0] == 0


def test_without_a_task_agreement_or_cosine_decides():
    assert kept_share(SAME, [], []) == (0.75, "answers that agree with torch")
    vectors = replace(SAME, agreement=None, cosine=0.9)
    assert kept_share(vectors, [], []) == (0.9, "mean cosine to torch's vectors")


def test_what_keeps_too_little_is_refused_in_words():
    said, written = verdict_of(0.98, "accuracy on b", keep=0.99, force=False, wrong=None)
    assert not written
    assert said == "not written: keeps 98.00 % (accuracy on b), less than the 99 % of --keep"
    said, written = verdict_of(0.98, "accuracy on b", keep=0.99, force=True, wrong=None)
    assert written
    assert said.startswith("written by --force: ")
    assert verdict_of(0.99, "x", keep=0.99, force=False, wrong=None) == ("keeps 99.00 % (x)", True)
    said, written = verdict_of(1.0, "x", keep=0.0, force=True, wrong="no number")
    assert (said, written) == ("not written: no number", False)


def test_the_fastest_for_one_text_is_run():
    def file(name: str, seconds: float | None, megabytes: float) -> Candidate:
        times = None if seconds is None else Times(1.0, ((1, 16, seconds, 1.0), (8, 16, 2.0, 3.0)))
        return Candidate(name, name, megabytes, SAME, (), times, 1.0, "", "any processor")

    assert default_format([]) is None
    assert default_format([file("a", 0.2, 9.0), file("b", 0.1, 9.0)]) == "b"
    assert default_format([file("a", None, 9.0), file("b", None, 3.0), file("c", None, 5.0)]) == "b"


@pytest.mark.parametrize(
    ("machine", "flags", "reduced"),
    [
        ("x86_64", {"avx2": True}, True),
        ("x86_64", {"avx2": True, "avx512_vnni": True}, False),
        ("AMD64", {"amx_int8": True}, False),
        ("aarch64", {}, False),
    ],
)
def test_seven_bits_where_sums_would_saturate(monkeypatch, machine, flags, reduced):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    found = int8_range()
    assert found.reduced is reduced
    assert found.reason
    assert (found.exact_on == "any processor") is reduced


def test_numbers_are_compared_by_correlation():
    assert _correlation(np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])) == pytest.approx(1)
    assert _correlation(np.array([[1.0, 1.0], [1.0, 1.0]])) == 1
    assert _correlation(np.array([[1.0, 1.0], [1.0, 2.0]])) == 0


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
def test_numbers_that_are_not_finite_are_infinitely_far(wrong):
    source = object.__new__(Source)  # only its kind is read
    for name, value in (("head", None), ("kind", "vectors")):
        object.__setattr__(source, name, value)
    sums = _Sums(source)
    sums.add(np.ones((2, 3)), np.array([[1.0, 1.0, 1.0], [1.0, wrong, 1.0]]))
    assert sums.difference(0.0).largest == math.inf
