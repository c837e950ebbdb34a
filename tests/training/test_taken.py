"""Figures that are read later: the records of a run are the same, and so is what stops it."""

import json
import math
from dataclasses import replace

import pytest
from conftest import same_run, train

from limbeck.errors import DivergedError
from limbeck.run.distill import distill
from limbeck.training import loop
from limbeck.training.checkpoint import latest_checkpoint, read_position


def test_records_do_not_depend_on_when_figures_are_read(raw_recipe, tmp_path, monkeypatch):
    raw_recipe["training"] |= {"logging_steps": 4, "eval_steps": 3}
    train(raw_recipe, tmp_path / "late")
    monkeypatch.setattr(loop, "_SHOWN_EVERY", -1.0)  # after every step
    train(raw_recipe, tmp_path / "at once")
    same_run(tmp_path / "late", tmp_path / "at once")


def test_a_step_that_is_not_finite_ends_the_run_before_the_next_checkpoint(
    raw_recipe, tmp_path, monkeypatch
):
    real, taken = loop.train_step, []

    def endless_at_2(learner, teacher, stage, batch, optimizer, accelerator, position, failed):
        taken.append(position.step)
        if position.step == 2:
            stage = replace(stage, weights=dict.fromkeys(stage.weights, math.inf))
        given = learner, teacher, stage, batch, optimizer, accelerator, position
        return real(*given, failed)

    monkeypatch.setattr(loop, "train_step", endless_at_2)
    monkeypatch.setattr(loop, "_SHOWN_EVERY", math.inf)  # else a slow machine reads them before
    raw_recipe["training"] |= {"logging_steps": 20, "save_steps": 2, "eval_steps": 20}
    with pytest.raises(DivergedError, match="not finite at batch 2 of stage"):
        distill(raw_recipe, tmp_path / "run")
    assert taken == [0, 1, 2, 3]  # the checkpoint after the last of them was due
    checkpoint, _ = latest_checkpoint(tmp_path / "run" / "state")
    assert read_position(checkpoint).step == 2
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["step"] == 2


def test_the_log_and_the_report_tell_the_share_of_the_limit(raw_recipe, tmp_path):
    raw_recipe["training"] |= {"logging_steps": 2}
    run = distill(raw_recipe, tmp_path / "run")
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    shares = [record["mfu"] for record in map(json.loads, lines) if "mfu" in record]
    assert len(shares) == 3 and all(0 < share < 1 for share in shares)
    assert min(shares) <= run.report["training"]["mfu"] <= max(shares)
