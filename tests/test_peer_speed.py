"""What benchmarks/peer_speed.py gives to other packages, and how it compares what was measured."""

import argparse
import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from limbeck.tokenization.prompts import answered

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def measured(seconds, size, losses, **others):
    return {
        "seconds": seconds,
        "processor_seconds": 2 * seconds,
        "bytes": size,
        "whole_bytes": 10 * size,
        "losses": losses,
        **others,
    }


def test_ratios_are_medians_over_rounds_and_the_teacher_counts(benchmark):
    peer_report = benchmark("peer_report")
    theirs = {"versions": {"trl": "9"}, "encoding_seconds": 1.0, "encoding_processor_seconds": 2.0}
    rounds = [
        (
            measured(1.0, 100, [3.0, 2.0, 1.0], tokens=500),
            measured(taken, 400, [3.0, 2.0, 1.5], **theirs),
        )
        for taken in (2.0, 4.0, 3.0)
    ]
    found = peer_report.summary("trl", rounds, "cpu")
    assert found["clock_ratio"] == found["speed_ratio"] == 4.0
    assert found["tokens_per_second"] == 62.5 and found["limbeck_tokens_per_second"] == 250
    assert peer_report.summary("trl", rounds, "cuda")["tokens_per_second"] == 125
    assert found["memory_ratio"] == found["whole_memory_ratio"] == 0.25
    assert found["encoding_share"] == pytest.approx(1 / 3)
    drawn = peer_report.tables({"trl": found})
    assert drawn["losses"]["rows"] == [["trl 9", 3.0, 3.0, 1.5, 1.0]]


def test_a_package_without_an_environment_is_left_out_with_the_way_to_make_one(benchmark, tmp_path):
    peer_speed = benchmark("peer_speed")
    given = argparse.Namespace(install=False, environments=tmp_path)
    assert "--install" in peer_speed.compared("textbrewer", given)


def test_labels_of_trl_are_the_tokens_that_limbeck_predicts(benchmark):
    prompts, responses = [[1, 5], [1, 6, 2]], [[3, 8], [5]]
    tokens = answered(list(map(np.array, prompts)), list(map(np.array, responses)), pad=0)
    found = benchmark("peer_folders")._tensors(tokens)["next_labels"]
    assert found.tolist() == [[-100, -100, 3, 8], [-100, -100, -100, 5]]


def test_only_steps_after_the_warm_up_are_timed(benchmark, monkeypatch):
    peer_clock = benchmark("peer_clock")
    clock = peer_clock.Clock("cpu")
    times = iter([0.0, 10.0, 20.0, 21.0, 23.0, 99.0])
    clocks = SimpleNamespace(perf_counter=lambda: next(times), process_time=lambda: 0.0)
    monkeypatch.setattr(peer_clock, "time", clocks)
    clock.begin()
    for _ in range(5):
        clock.losses.append(torch.ones(()))
        clock.tick()
    found = clock.result(4)
    assert found["seconds"] == 3.0
    assert len(found["losses"]) == 4
    assert found["bytes"] >= 0
