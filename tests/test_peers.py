"""limbeck's losses and scores equal their formulas on the inputs of benchmarks/peers.py."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("peers")


def test_every_quantity_equals_its_formula(peers):
    found = {case.quantity: (case.limbeck(), case.formula()) for case in peers.comparisons()}
    assert len(found) == 14
    for quantity, (mine, formula) in found.items():
        assert mine == pytest.approx(formula, rel=1e-5), quantity


def test_padding_on_either_side_leaves_the_relations_as_they_are(peers):
    assert peers.relations(3) == pytest.approx(peers.relations(0), rel=1e-6)


def test_packages_that_are_missing_are_named_with_the_command(peers, monkeypatch, capsys):
    monkeypatch.setattr(peers, "installed", lambda package: None)
    peers.main()
    lines = capsys.readouterr().out.splitlines()
    for package, command in peers.INSTALL.items():
        assert f"{package} is not installed; run: {command}" in lines


def test_a_package_that_differs_is_told_from_one_that_does_not(peers, monkeypatch, capsys):
    monkeypatch.setattr(peers, "installed", lambda package: "9")
    cases = [
        peers.Comparison("trl", "right", lambda: 1.0, lambda: 1.0, lambda: 1.0, "was wrong once"),
        peers.Comparison("trl", "wrong", lambda: 1.0, lambda: 1.0, lambda: 2.0, "twice as much"),
    ]
    monkeypatch.setattr(peers, "comparisons", lambda: cases)
    peers.main()
    _, right, wrong, *_ = capsys.readouterr().out.splitlines()
    assert right.endswith("the same")
    assert wrong.endswith("twice as much")
