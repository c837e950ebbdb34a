"""Runs in which low-rank layers or adapters alone learn, with all other weights in 16 bits."""

import pytest
import torch
from conftest import stopped_and_whole, train
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.errors import RecipeError
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.distill import distill
from limbeck.run.models import build_models

FACTORS = {"parameter_ratio": 0.5, "whiten": False}
ADAPTERS = {"kind": "lora", "rank": 2}


@pytest.fixture
def raw(raw_recipe, decoder, prompts, tmp_path):
    coarse = tmp_path / "teacher"  # as models are published: in bfloat16
    AutoModelForCausalLM.from_pretrained(decoder).bfloat16().save_pretrained(coarse)
    AutoTokenizer.from_pretrained(decoder).save_pretrained(coarse)
    raw_recipe["teacher"] = str(coarse)
    raw_recipe["data"] = {"prompts": prompts, "max_length": 40, "max_new_tokens": 16}
    raw_recipe["stages"] = [
        {
            "policy": "switch",
            "objectives": {"logits": {}, "labels": {"weight": 0.5}},
            "trainable": "low_rank",
            "max_steps": 4,
            "batch_size": 4,
            "optimizer": {"learning_rate": 0.01},
        }
    ]
    raw_recipe["training"] |= {"save_steps": 2, "precision": "float32"}
    return raw_recipe


def student_of(low_rank):
    return {"init_from_teacher": {"layers": "first"}, "low_rank": low_rank}


def weights_of(folder):
    return load_file(folder / "student" / "model.safetensors")


@pytest.mark.parametrize("low_rank", [FACTORS, ADAPTERS], ids=["factors", "adapters"])
def test_the_student_is_that_of_float32(raw, tmp_path, monkeypatch, low_rank):
    raw["student"] = student_of(low_rank)
    if low_rank is ADAPTERS:
        del raw["stages"][0]["trainable"]
    held = weights_of(train(raw, tmp_path / "held"))
    raw["training"]["frozen_dtype"] = "float32"
    plain = weights_of(train(raw, tmp_path / "plain"))
    assert held.keys() == plain.keys()
    for name in plain:
        assert held[name].dtype == torch.float32
        torch.testing.assert_close(held[name], plain[name], rtol=1e-4, atol=1e-5)
    raw["training"]["frozen_dtype"] = "auto"
    whole, again = stopped_and_whole(raw, tmp_path, monkeypatch, 3)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_models_hold_a_frozen_weight_once(raw, tmp_path, precision):
    raw["student"] = student_of(FACTORS)
    raw["training"]["precision"] = precision
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, tmp_path)
    student, teacher = build_models(setup, accelerator)
    frozen = {p.data_ptr(): p for p in student.parameters() if not p.requires_grad}
    matrices = [p for p in frozen.values() if p.dim() == 2]
    assert {p.dtype for p in matrices} == {torch.bfloat16}
    own = {p.data_ptr() for p in teacher.model.parameters()}
    assert {p.data_ptr() for p in matrices} <= own


def test_frozen_weights_are_rounded_on_request(raw, tmp_path, decoder):
    raw["teacher"], raw["student"] = decoder, student_of(FACTORS)
    teacher = load_file(f"{decoder}/model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(weights_of(train(raw, tmp_path / "plain"))[name], teacher[name])
    raw["training"]["frozen_dtype"] = "bfloat16"
    rounded = weights_of(train(raw, tmp_path / "rounded"))[name]
    assert torch.equal(rounded, teacher[name].bfloat16().float())
    raw["stages"][0]["trainable"] = "all"
    with pytest.raises(RecipeError, match=r"training\.frozen_dtype: rounds weights that are never"):
        prepare(raw)


def test_an_optimizer_whose_package_is_missing(raw, monkeypatch):
    raw["student"] = student_of(FACTORS)
    raw["stages"][0]["optimizer"] |= {"optim": "adamw_torch_8bit"}
    assert prepare(raw).stages[0].optimizer.optim == "adamw_torch_8bit"
    monkeypatch.setattr("limbeck.models.quantized.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"optimizer\.optim: is adamw_torch_8bit: .*limbeck\[qua"):
        prepare(raw)


def test_the_report_tells_what_memory_holds(raw, tmp_path):
    raw["student"] = student_of(FACTORS)
    run = distill(raw, tmp_path / "run")
    memory = run.report["training"]["memory"]
    assert memory["optimizer"] >= 2 * memory["gradients"] > 0
    assert 0 < memory["teacher"] < memory["student"]  # it reads the rest from the student
    assert "Memory of a step" in (run.folder / "report" / "report.md").read_text("utf-8")
