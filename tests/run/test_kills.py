"""A run that is killed at any moment resumes to the same student, bit by bit."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import warm
import yaml
from conftest import same_run, train
from rich.console import Console

from limbeck.errors import TrainingError
from limbeck.run.distill import distill
from limbeck.training import checkpoint

KILLS = 50


def test_fifty_kills_at_random_moments_lose_nothing(raw_recipe, tmp_path):
    raw_recipe["stages"] = [
        {"objectives": {"relations": {}, "hidden_states": {"weight": 0.1}}, "max_steps": 8},
        {"objectives": {"labels": {}, "logits": {}}, "max_steps": 8, "dropout": True},
    ]
    for stage in raw_recipe["stages"]:
        stage |= {"batch_size": 4, "micro_batch_size": 2}
    raw_recipe["training"] |= {"save_steps": 2, "eval_steps": 4, "logging_steps": 2}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(raw_recipe), encoding="utf-8")
    script = str(Path(__file__).parent / "killed.py")
    done = subprocess.run(
        [warm.PYTHON, script, str(recipe), str(tmp_path), str(KILLS), "0"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["kills"] >= KILLS, facts  # how many left half a file depends on the disk
    for number in range(facts["runs"]):
        same_run(tmp_path / f"run-{number}", tmp_path / "whole")
        assert not list((tmp_path / f"run-{number}").rglob("*.part"))


class Killed(BaseException):
    """Stands for the end of the process: nothing after it is done."""


@pytest.mark.parametrize("step", ["first file", "second file", "flush", "rename", "removal"])
def test_a_checkpoint_that_a_kill_interrupts_costs_nothing(
    raw_recipe, tmp_path, trained, monkeypatch, step
):
    raw_recipe["stages"][0]["max_steps"] = 8
    raw_recipe["training"] |= {"save_steps": 2, "save_total_limit": 1, "logging_steps": 1}
    whole, calls = trained(raw_recipe), []

    def dies_at(patch, place, name, count):
        real = getattr(place, name)

        def dying(*arguments, **options):
            calls.append(name)
            if len(calls) == count:
                raise Killed
            return real(*arguments, **options)

        patch.setattr(place, name, dying)

    steps = {
        "first file": (checkpoint, "save_file", 3),
        "second file": (checkpoint, "save_file", 4),
        "flush": (checkpoint.os, "fsync", 6),
        "rename": (checkpoint.Path, "rename", 2),
        "removal": (checkpoint, "_checkpoints", 2),
    }
    with monkeypatch.context() as patch:
        dies_at(patch, *steps[step])
        with pytest.raises(Killed):
            distill(raw_recipe, tmp_path / "broken")
    assert list((tmp_path / "broken" / "state").iterdir())
    train(raw_recipe, tmp_path / "broken")
    same_run(tmp_path / "broken", whole)


@pytest.mark.parametrize("damage", ["a byte", "truncated", "missing", "facts", "alone"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    raw_recipe, tmp_path, trained, damage, capsys
):
    raw_recipe["stages"][0]["max_steps"] = 8
    raw_recipe["training"] |= {"save_steps": 2, "save_total_limit": 3, "logging_steps": 1}
    whole = trained(raw_recipe)
    shutil.copytree(whole, tmp_path / "run")
    state = tmp_path / "run" / "state"
    names = sorted(p.name for p in state.iterdir())
    assert names == [
        "checkpoint-000-000000004",
        "checkpoint-000-000000006",
        "checkpoint-001-000000000",
    ]
    for file in (tmp_path / "run" / "student").iterdir():
        file.unlink()
    damaged = names if damage == "alone" else names[1:]
    for name in damaged:
        file = state / name / "learner.safetensors"
        data = bytearray(file.read_bytes())
        if damage in ("a byte", "alone"):
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        elif damage == "truncated":
            file.write_bytes(data[:-5])
        elif damage == "missing":
            file.unlink()
        else:
            (state / name / "checkpoint.json").write_text('{"position": 3}')
    if damage == "alone":
        with pytest.raises(TrainingError, match="damaged.*remove .*state to start again"):
            distill(raw_recipe, tmp_path / "run")
        return
    distill(raw_recipe, tmp_path / "run", console=Console(width=1000))
    said = capsys.readouterr().out
    assert all(f"{name} is damaged and is not used" in said for name in damaged)
    same_run(tmp_path / "run", whole)
