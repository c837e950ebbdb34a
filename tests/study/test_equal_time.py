"""Arms that train for the same time: however long their recipes say that a stage is."""

import pytest
from rich.console import Console

from limbeck.run.probe import Probe
from limbeck.study.arms import prepare_study
from limbeck.study.equal_time import of_equal_time


@pytest.mark.parametrize("length", [{"num_train_epochs": 3}, {"tokens": 4000}, {"max_steps": 5}])
def test_the_time_replaces_any_length_of_a_stage(
    task_recipe, raw_recipe, tmp_path, monkeypatch, length
):
    of_rows = "num_train_epochs" in length
    recipe = task_recipe("labels") if of_rows else raw_recipe
    objectives = {"class_logits": {}} if of_rows else {"relations": {}}
    recipe["stages"] = [{"objectives": objectives, "batch_size": 8, **length}]
    arms = {"one": {}, "other": {"stages.0.batch_size": 16}}
    raw = {"recipe": recipe, "arms": arms, "control": "one", "equal": {"seconds": 2.0}}
    _, runs = prepare_study(raw)
    monkeypatch.setattr("limbeck.study.equal_time.probe", lambda *_: Probe(0.1, None, {}))
    timed = of_equal_time(runs, 2.0, tmp_path / "probes.json", Console(quiet=True))
    assert [[stage.steps for stage in run.setup.stages] for run in timed] == [[20], [20]]
