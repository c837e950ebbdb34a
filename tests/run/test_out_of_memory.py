"""Memory that is not enough: the error says which part is the largest, and what takes less."""

import pytest
import torch

from limbeck.errors import TrainingError
from limbeck.recipe.check import check
from limbeck.run.distill import distill
from limbeck.run.out_of_memory import _TAKES_LESS, is_out_of_memory
from limbeck.training import loop
from limbeck.training.memory import expected_parts, held_by_parts


def _too_much(*_):
    torch.empty(1 << 62, dtype=torch.uint8)  # the error of torch itself, on a processor


def _of_a_gpu(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


@pytest.mark.parametrize("fails", [_too_much, _of_a_gpu])
def test_the_error_names_the_largest_part(raw_recipe, tmp_path, monkeypatch, fails):
    monkeypatch.setattr(loop, "train_step", fails)
    gigabytes = {"peak": 9_000_000_000}
    monkeypatch.setattr("limbeck.run.out_of_memory.peak_bytes", lambda _: gigabytes["peak"])
    monkeypatch.setattr("limbeck.run.train.held_bytes", lambda _: 1_000_000)
    with pytest.raises(TrainingError, match="largest part is activations and the rest: divide"):
        distill(raw_recipe, tmp_path / "run")
    gigabytes["peak"] = 0
    monkeypatch.setattr("limbeck.run.train.held_bytes", lambda _: 0)
    with pytest.raises(TrainingError) as told:
        distill(raw_recipe, tmp_path / "run")
    assert "The largest part is teacher: hold the teacher in fewer bits" in str(told.value)
    assert "not enough for stage" in str(told.value) and "student 0 MB" in str(told.value)


def test_other_errors_are_not_changed(raw_recipe, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("shapes do not agree")

    monkeypatch.setattr(loop, "train_step", fails)
    with pytest.raises(RuntimeError, match="shapes do not agree"):
        distill(raw_recipe, tmp_path / "run")
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(RuntimeError("memory"))


def test_parts_are_expected_as_they_are_held():
    learner = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 32))
    learner[0].requires_grad_(False)
    optimizer = torch.optim.AdamW(learner[1].parameters())
    learner(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    found = expected_parts(learner, None, "adamw_torch", caches=5)
    held = held_by_parts(learner, None, optimizer, caches=5)
    assert held["optimizer"] - found["optimizer"] == 2 * 4  # two counts of steps
    assert {**found, "optimizer": 0} == {**held, "optimizer": 0}
    assert found.keys() | {"before", "rest"} == _TAKES_LESS.keys()


def test_a_text_that_is_too_long_for_a_model_is_named(raw_recipe, decoder, prompts):
    raw_recipe["teacher"] = decoder
    raw_recipe["data"] = {"prompts": prompts, "max_length": 120, "max_new_tokens": 30}
    raw_recipe["stages"] = [{"objectives": {"labels": {}, "logits": {}}, "max_steps": 2}]
    said = "is 120, of which 30 the response (`max_new_tokens`), but the student reads 80 at most"
    assert said in dict(check(raw_recipe)[1])["data.max_length"]
    raw_recipe["student"]["max_position_embeddings"] = 128
    assert "but the teacher reads 80 at most" in dict(check(raw_recipe)[1])["data.max_length"]
    raw_recipe["data"]["max_length"] = 80
    assert not check(raw_recipe)[1]
