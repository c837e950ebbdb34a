"""A teacher that runs beside the student gives the same signals from bfloat16 weights."""

import pytest
import torch
from conftest import FAMILIES, all_needs, make_batch, make_model, same_run, train

from limbeck.models.attention import use_float32_attention
from limbeck.models.families import ARCHITECTURES
from limbeck.run import teacher as module
from limbeck.run.distill import distill
from limbeck.teacher.live import LiveTeacher, halve_weights


@pytest.mark.parametrize("family", FAMILIES)
def test_halved_weights_give_the_same_signals(family):
    whole, halved = (make_model(family, seed=1) for _ in range(2))
    for model in (whole, halved):
        use_float32_attention(model)
    halve_weights(halved)
    sizes = [sum(p.nbytes for p in m.base_model.parameters()) for m in (whole, halved)]
    assert sizes[1] < 0.9 * sizes[0]
    needs = all_needs(family)
    batch = make_batch()
    with torch.autocast("cpu", torch.bfloat16):
        found = [
            LiveTeacher(model, ARCHITECTURES[family]).tensors(batch, needs.tensors())
            for model in (whole, halved)
        ]
    assert found[0].keys() == found[1].keys() and len(found[0]) > 3
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_a_run_gives_the_same_student(raw_recipe, tmp_path, monkeypatch):
    raw_recipe["training"]["precision"] = "bfloat16"
    raw_recipe["stages"][0]["objectives"] |= {"logits": {}, "hidden_states": {}}
    distill(raw_recipe, tmp_path / "halved")
    kept = []
    monkeypatch.setattr(module, "halve_weights", kept.append)
    train(raw_recipe, tmp_path / "whole")
    assert len(kept) == 1
    same_run(tmp_path / "whole", tmp_path / "halved")
