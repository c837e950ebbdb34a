"""Runs in which low-rank layers or adapters alone learn, and a head that the student had not."""

import pytest
import torch
from conftest import HEADS, make_model, stopped_and_whole, train
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from limbeck.errors import RecipeError
from limbeck.models.task_heads import task_class
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.models import build_models
from limbeck.run.plan import plan_tables
from limbeck.tokenization.load import load_tokenizer

ADAPTERS = {"kind": "lora", "target_modules": "all", "rank": 2}
TRAINED = {"optimizer": {"learning_rate": 0.01}}
HEADLESS = [  # with and without a pooler, and heads of one layer and of two
    ("labels", "bert"),
    ("labels", "distilbert"),
    ("labels", "roberta"),
    ("labels", "llama"),
    ("tags", "bert"),
    ("tags", "modernbert"),
]


def body_of(raw, folder, family="bert"):
    """A folder of a model without any head, with the tokenizer of the recipe's teacher."""
    tokenizer = load_tokenizer(raw["teacher"])
    model = make_model(family, vocabulary=len(tokenizer), hidden=16)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def weights_of(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # asked by peft
@pytest.mark.parametrize(("task", "family"), HEADLESS)
def test_a_new_head_learns_beside_adapters(task_recipe, tmp_path, task, family):
    raw = task_recipe(task, family)
    body = body_of(raw, tmp_path / "body", family)
    raw["student"] = {"model": body, "low_rank": {**ADAPTERS, "export": "adapters"}}
    raw["stages"][0] |= TRAINED
    setup = prepare(raw)
    [table] = [one for name, one in plan_tables(setup, None) if name == "Low-rank layers (lora)"]
    assert table[-1][:4] == ["the new head", "", "", "whole"]
    first, _ = build_models(setup, build_accelerator(setup.recipe.training, tmp_path))
    begun = {name: weight.clone() for name, weight in first.state_dict().items()}
    run = train(raw, tmp_path / "run")
    student, before = weights_of(run / "student"), weights_of(tmp_path / "body")
    inside = f"{first.base_model_prefix}."
    for name, weight in student.items():
        old = before.get(name.removeprefix(inside))
        if "pooler" in name or not name.startswith(inside):
            assert not torch.equal(weight, begun[name]), f"{name} has not learned"
        elif "norm" in name.lower() or "embed" in name:
            assert old is not None and torch.equal(weight, old), f"{name} is not frozen"
    # peft puts the adapters and the head upon the model that the student was.
    kind, tokens = task_class(HEADS[task]), {"input_ids": torch.arange(5, 25)[None]}
    base = kind.from_pretrained(body, num_labels=len(HEADS[task].labels))
    with torch.no_grad():
        added = PeftModel.from_pretrained(base, run / "adapters")(**tokens).logits
        merged = kind.from_pretrained(run / "student")(**tokens).logits
    torch.testing.assert_close(added, merged, rtol=1e-4, atol=1e-5)


def test_a_new_head_learns_beside_low_rank_layers(task_recipe, tmp_path, monkeypatch):
    raw = task_recipe()
    raw["student"] = {"model": body_of(raw, tmp_path / "body"), "low_rank": {"rank": 4}}
    raw["stages"][0] |= {"trainable": "low_rank", **TRAINED}
    raw["training"] |= {"save_steps": 2}
    whole, again = stopped_and_whole(raw, tmp_path, monkeypatch, 3)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    before = weights_of(tmp_path / "body")
    assert torch.equal(
        whole["bert.embeddings.word_embeddings.weight"], before["embeddings.word_embeddings.weight"]
    )
    assert whole["classifier.bias"].abs().min() > 0  # it begins as zeros
    raw["training"]["frozen_dtype"] = "bfloat16"
    rounded = weights_of(train(raw, tmp_path / "rounded") / "student")
    assert not torch.equal(rounded["classifier.weight"], rounded["classifier.weight"].bfloat16())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_new_vocabulary_head_learns_beside_adapters(raw_recipe, tmp_path):
    body = body_of(raw_recipe, tmp_path / "body")
    raw_recipe["student"] = {"model": body, "low_rank": {**ADAPTERS, "export": "adapters"}}
    raw_recipe["stages"][0] |= {"objectives": {"labels": {}}, **TRAINED}
    run = train(raw_recipe, tmp_path / "run")
    student, before = weights_of(run / "student"), weights_of(tmp_path / "body")
    table = "bert.embeddings.word_embeddings.weight"  # tied to the head
    assert torch.equal(student[table], before[table.removeprefix("bert.")])
    assert student["cls.predictions.bias"].abs().max() > 0
    base, tokens = (
        AutoModelForMaskedLM.from_pretrained(body),
        {"input_ids": torch.arange(5, 25)[None]},
    )
    with torch.no_grad():
        added = PeftModel.from_pretrained(base, run / "adapters")(**tokens).logits
        merged = AutoModelForMaskedLM.from_pretrained(run / "student")(**tokens).logits
    torch.testing.assert_close(added, merged, rtol=1e-4, atol=1e-5)


def test_a_new_map_of_vectors_learns_beside_adapters(raw_recipe, task_files, tmp_path):
    student = {"model": body_of(raw_recipe, tmp_path / "body"), "low_rank": dict(ADAPTERS)}
    raw_recipe["student"] = student
    raw_recipe["data"] = {"rows": str(task_files / "labels"), "max_length": 24}
    raw_recipe["stages"][0] |= {"objectives": {"sentence_vectors": {}}, **TRAINED}
    assert prepare(raw_recipe).new_parts == {"map"}
    maps = []
    for steps in (1, 4):
        raw_recipe["stages"][0]["max_steps"] = steps
        run = train(raw_recipe, tmp_path / f"run{steps}")
        [folder] = (run / "student").glob("*_Dense")
        maps.append(weights_of(folder)["linear.weight"])
    assert (maps[0] - maps[1]).abs().max() > 1e-3
    student["low_rank"]["export"] = "adapters"
    with pytest.raises(RecipeError, match=r"low_rank\.export: is adapters, and peft has no place"):
        prepare(raw_recipe)
