"""Pilots: what short trainings say, on made-up and on real ones."""

import json

import numpy as np
import pytest

from limbeck.errors import RecipeError
from limbeck.recipe.check import prepare
from limbeck.study import pilot as pilot_module
from limbeck.study.pilot import (
    PilotSettings,
    control_recipe,
    pilot,
    possible_budgets,
    shortened,
)
from limbeck.study.pilot_report import Measured, pilot_markdown, pilot_result

SHARES = [0.02, 0.02, 0.04, 0.04, 0.08, 0.08]


def trainings(score, *, loss=lambda share: 1 + share**-0.3, teacher=0.95) -> list[Measured]:
    return [
        Measured(share, n % 2, 9.0, loss(share), "snips", "accuracy", score(share), teacher)
        for n, share in enumerate(SHARES)
    ]


def lacking(floor, scale, rate=0.4):
    return lambda share: 1 - floor - scale * share**-rate


def test_exact_laws_give_a_verdict():
    good, poor = lacking(0.02, 0.05), lacking(0.2, 0.06)
    result = pilot_result("r", {"student": trainings(good), "labels": trainings(poor)}, keep=0.9)
    assert result.verdict == "yes" and result.scores["student"].value == pytest.approx(0.93, 1e-3)
    assert result.losses["student"].value == pytest.approx(2.0, 1e-3)
    assert "below the student's interval" in result.reasons[1]
    result = pilot_result("r", {"student": trainings(poor), "labels": trainings(good)}, keep=0.9)
    assert result.verdict == "no" and "above the student's interval" in result.reasons[1]
    result = pilot_result("r", {"student": trainings(good)}, keep=1.0)
    assert result.verdict == "no" and "100% of the teacher is 0.950" in result.reasons[0]
    assert "Worth the whole training: **no**" in pilot_markdown(result)


@pytest.mark.parametrize("seed", range(10))
def test_noise_cannot_be_told(seed):
    noise = np.random.default_rng(seed).normal(0, 0.05, len(SHARES))
    some = iter(noise)
    result = pilot_result("r", {"student": trainings(lambda _: 0.6 + next(some))}, keep=0.9)
    assert result.verdict == "cannot be told" or result.scores["student"].falls


@pytest.mark.parametrize(("metric", "least"), [("accuracy", 0.0), ("matthews", -1.0)])
def test_no_interval_ends_below_the_least_score(metric, least):
    scores = [0.0, 0.0, 0.1, 0.0, 0.9, 0.0]
    some = [Measured(share, n, 9.0, 1.0, "t", metric, scores[n]) for n, share in enumerate(SHARES)]
    law = pilot_result("r", {"student": some}, keep=0.9).scores["student"]
    assert (law.low == 0.0) == (metric == "accuracy") and least <= law.low < law.high <= 1


def test_what_stands_in_the_way_of_a_verdict():
    rising = trainings(lacking(0.0, 0.05), loss=lambda share: 10.0)
    assert pilot_result("r", {"student": rising}, keep=0.9).verdict == "no"
    unscored = [Measured(share, n % 2, 9.0, share**-0.1) for n, share in enumerate(SHARES)]
    result = pilot_result("r", {"student": unscored}, keep=0.9)
    assert result.verdict == "cannot be told" and "no task is named" in result.reasons[0]
    alone = trainings(lacking(0.0, 0.05), teacher=None)
    result = pilot_result("r", {"student": alone}, keep=0.9)
    assert result.verdict == "cannot be told" and "neither a teacher" in result.reasons[0]
    unclear = pilot_result(
        "r", {"student": trainings(lacking(0, 0.05)), "labels": trainings(lambda _: None)}, keep=0.9
    )
    assert unclear.verdict == "cannot be told"


def test_budgets_and_recipes(raw_recipe):
    raw = {**raw_recipe, "stages": [{"preset": "minilmv2", "max_steps": 2000}]}
    setup = prepare(raw)
    assert possible_budgets(setup, (0.02, 0.04, 0.08)) == [0.02, 0.04, 0.08]
    assert possible_budgets(setup, (0.005, 0.01, 0.02))[0] == 30 / 2000
    short = shortened(raw, setup, 0.02, seed=3, with_teacher=False)
    assert short["stages"] == [{"preset": "minilmv2", "max_steps": 40}] and short["seed"] == 3
    assert short["evaluation"] == {"cost": False, "teacher": False}
    control = control_recipe(raw, setup)
    assert control["stages"] == [{"objectives": {"labels": {}}, "max_steps": 2000}]
    assert control_recipe(control, prepare(control)) is None  # it is its own control
    few = prepare({**raw_recipe, "stages": [{"preset": "minilmv2", "max_steps": 60}]})
    with pytest.raises(RecipeError, match="carry out the whole recipe"):
        possible_budgets(few, (0.02, 0.04, 0.08))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"budgets": (0.1, 0.2)}, "three or more"),
        ({"budgets": (0.1, 0.2, 1.5)}, "between 0 and 1"),
        ({"seeds": 1}, "give --seeds 2"),
        ({"seeds": 0}, "give 1 or more"),
        ({"keep": 0.0}, "more than 0"),
    ],
)
def test_settings_that_say_nothing(settings, said):
    with pytest.raises(RecipeError, match=said):
        PilotSettings(**settings).check()


def test_a_pilot_of_a_task_resumes(task_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(pilot_module, "_LEAST_STEPS", 1)
    raw = task_recipe("labels")
    raw["stages"] = [{**raw["stages"][0], "max_steps": 50}]
    real, done = pilot_module.distill, []

    def stops(recipe, folder, **options):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(folder)
        return real(recipe, folder, **options)

    monkeypatch.setattr(pilot_module, "distill", stops)
    settings = PilotSettings(seeds=2)
    with pytest.raises(KeyboardInterrupt):
        pilot(raw, tmp_path / "pilot", settings)
    assert not (tmp_path / "pilot" / "pilot.json").exists()
    done.clear()
    monkeypatch.setattr(pilot_module, "distill", real)
    result = pilot(raw, tmp_path / "pilot", settings)
    assert [*result.measured] == ["student", "labels alone"]
    assert all(len(some) == 6 for some in result.measured.values())
    first = result.measured["student"][0]
    assert first.task == "labels" and first.teacher is not None and first.loss < first.before
    assert result.verdict in ("yes", "no", "cannot be told") and result.reasons
    kept = json.loads((tmp_path / "pilot" / "pilot.json").read_text())
    assert kept["measured"]["student"][0]["score"] == first.score
    assert "| teacher |" in (tmp_path / "pilot" / "pilot.md").read_text()
