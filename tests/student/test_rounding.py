"""Layers that compute with rounded numbers, against plain loops, in a run, and in the backward."""

from typing import get_args

import pytest
import torch
from conftest import make_batch, make_model, resumed_and_cached

from limbeck.errors import RecipeError
from limbeck.recipe.check import prepare
from limbeck.student.rounding import (
    round_layers,
    rounded_activations,
    rounded_blocks,
    rounded_rows,
)
from limbeck.student.rounding_kinds import Rounding


def nearest(value: float) -> int:
    """Rounded to the nearest whole number; halves to the even one."""
    return round(value)


def test_rows_blocks_and_activations_against_plain_loops():
    torch.manual_seed(0)
    weight = torch.randn(5, 70)
    weight[2] = 0
    whole, scale = rounded_rows(weight, 127)
    for row in range(5):
        step = max(abs(v) for v in weight[row].tolist()) / 127 or 1.0
        assert scale[row].item() == pytest.approx(step)
        for column in range(70):
            value = nearest(weight[row, column].item() / scale[row].item())
            assert whole[row, column].item() == pytest.approx(value, abs=1e-4)
    for bits, half in ((4, 8), (8, 128)):
        found = rounded_blocks(weight, bits)
        for row in range(5):
            for start in range(0, 70, 32):
                block = weight[row, start : start + 32].tolist()
                step = max(block, key=abs) / -half or 1.0
                for number, value in enumerate(block):
                    rounded = max(-half, min(half - 1, nearest(value / step))) * step
                    assert found[row, start + number].item() == pytest.approx(rounded, abs=1e-5)
    x = torch.randn(3, 4, 6) + 1
    whole, scale = rounded_activations(x)
    for text in range(3):
        values = x[text].flatten().tolist()
        step = (max(0.0, *values) - min(0.0, *values)) / 255
        zero = nearest(-min(0.0, *values) / step)
        for value, one in zip(values, whole[text].flatten().tolist(), strict=True):
            rounded = max(0, min(255, nearest(value / step) + zero)) - zero
            assert one == pytest.approx(rounded, abs=1e-3)


def test_whole_numbers_are_exact_in_bfloat16():
    model = make_model("bert", layers=1)
    layer = model.base_model.encoder.layer[0].intermediate.dense
    x = torch.randn(2, 3, 24)
    round_layers(model, "int8")
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.bfloat16
    # One rounding of the product, one of the output: nothing of the operands is lost.
    assert (half.float() - exact).abs().max() <= 2**-7 * exact.abs().max()


@pytest.mark.parametrize("rounding", get_args(Rounding))
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "opt"])
def test_gradients_pass_and_nothing_of_it_stays(family, rounding):
    model = make_model(family, layers=1)
    tokens = make_batch().student
    before = model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long()).logits
    state = {name: value.clone() for name, value in model.state_dict().items()}
    round_layers(model, rounding)
    rounded = model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long()).logits
    assert 0 < (rounded - before).abs().max() < 0.5 * before.abs().max()
    rounded.square().mean().backward()
    lacking = [
        name
        for name, one in model.named_parameters()
        if one.ndim == 2 and (one.grad is None or not one.grad.abs().max() > 0)
    ]
    assert [name for name in lacking if "token_type" not in name and "pooler" not in name] == []
    assert model.state_dict().keys() == state.keys()
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())
    round_layers(model, None)
    again = model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long()).logits
    assert again.equal(before)


def of_two_stages(raw_recipe: dict) -> dict:
    [stage] = raw_recipe["stages"]
    short = {**stage, "objectives": {"hidden_states": {}}, "max_steps": 3}
    return {**raw_recipe, "stages": [short, {**short, "quantization_aware": "int8"}]}


def test_a_last_stage_through_the_rounding(raw_recipe, tmp_path, monkeypatch):
    """It is resumed and cached as other stages are; the loss of the rounding is in the log."""
    raw = of_two_stages(raw_recipe)
    raw["training"] = {**raw["training"], "eval_steps": 3}
    run = resumed_and_cached(raw, tmp_path, monkeypatch)
    assert "quantization" not in (run.student / "config.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantization_aware": "int4"}, "is int4, which exported files of decoders alone have"),
        ({"quantization_aware": "int9"}, "int8"),
        ({"mixed": {}, "quantization_aware": "int8", "objectives": {}}, "no place in a mixed"),
    ],
)
def test_rounding_that_cannot_be(raw_recipe, changes, said):
    [stage] = raw_recipe["stages"]
    with pytest.raises(RecipeError, match=said):
        prepare({**raw_recipe, "stages": [{**stage, **changes}]})


def test_adapters_are_added_up_when_they_are_exported(raw_recipe):
    [stage] = raw_recipe["stages"]
    student = {
        "init_from_teacher": {},
        "low_rank": {"kind": "lora", "rank": 2, "target_modules": "feed_forward"},
    }
    stages = [{**stage, "quantization_aware": "int8"}]
    with pytest.raises(RecipeError, match="whose weights are added up on export"):
        prepare({**raw_recipe, "student": student, "stages": stages})
