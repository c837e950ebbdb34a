"""Weights keep the precision of their file, and the numbers are those of float32."""

from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model, same_run, train
from safetensors.torch import load_file, save_file

from limbeck.activations import Needs
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_body, load_model
from limbeck.recipe.check import prepare
from limbeck.run import models as assemble
from limbeck.run.accelerator import build_accelerator
from limbeck.run.distill import distill
from limbeck.run.models import build_models
from limbeck.teacher.live import LiveTeacher

NEEDS = Needs(hidden=frozenset({0, 1}), queries=frozenset({0}))


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_signals_are_those_of_float32_to_the_bit(family, precision, tmp_path):
    make_model(family, seed=1).to(precision).save_pretrained(tmp_path)
    architecture, batch = ARCHITECTURES[family], make_batch()
    headed = bool(architecture.head)
    needs = replace(NEEDS, predictions=headed)
    load = {"architecture": architecture, "with_head": True if headed else None}
    models = [load_model(str(tmp_path), stored=stored, **load) for stored in (False, True)]
    assert {parameter.dtype for parameter in models[0].parameters()} == {torch.float32}
    widened = ("rel_embeddings", *(models[1]._keep_in_fp32_modules or ()))
    wide = tuple(f".{name}.weight" for name in widened)
    named = {name: p for name, p in models[1].named_parameters() if p.dim() == 2}
    assert {p.dtype for name, p in named.items() if not name.endswith(wide)} == {precision}
    assert all(p.dtype == torch.float32 for name, p in named.items() if name.endswith(wide))
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            one, other = (
                LiveTeacher(model, architecture).signals(batch, needs) for model in models
            )
            found = [(s.predictions.logits() if headed else s.hidden[1]) for s in (one, other)]
        assert torch.equal(*found)
        assert torch.equal(one.queries[0], other.queries[0])
        assert all(torch.equal(one.hidden[layer], other.hidden[layer]) for layer in (0, 1))
        assert autocast or found[1].dtype == other.hidden[0].dtype == torch.float32


def test_subclasses_of_a_family_are_held_in_the_precision_of_their_file(tmp_path):
    expected = {"falcon": "FalconLinear", "opt": "OPTLearnedPositionalEmbedding"}
    for family, name in expected.items():
        make_model(family).bfloat16().save_pretrained(tmp_path / family)
        model = load_body(str(tmp_path / family), stored=True)
        own = [m for m in model.modules() if type(m).__name__ == f"StoredOf{name}"]
        assert own, f"no {name} in {family}"
        assert {module.weight.dtype for module in own} == {torch.bfloat16}


def test_tied_weights_stay_tied_and_are_held_once(tmp_path):
    make_model("gpt2").bfloat16().save_pretrained(tmp_path)
    model = load_model(
        str(tmp_path), architecture=ARCHITECTURES["gpt2"], with_head=True, stored=True
    )
    assert model.lm_head.weight is model.transformer.wte.weight
    held = sum(p.nbytes for p in model.parameters())
    assert held < 1.1 * (tmp_path / "model.safetensors").stat().st_size


def change(folder, extra):
    """Replace some weights in the file of a folder."""
    file = folder / "model.safetensors"
    weights = load_file(file) | extra
    save_file(weights, file, metadata={"format": "pt"})
    return weights


def precisions(model):
    return {parameter.dtype for parameter in model.parameters() if parameter.dim() == 2}


@pytest.mark.parametrize("widest", [torch.float32, torch.float16])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.filterwarnings("ignore:.*from within a wrapper")
def test_norms_keep_the_precision_of_their_file_and_decide_nothing(tmp_path, widest, prefix):
    make_model("llama").bfloat16().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = {f"{prefix}{name}": weight for name, weight in load_file(file).items()}
    for name, weight in weights.items():
        if "norm" in name:
            weights[name] = torch.rand(len(weight)).to(widest)
    save_file(weights, file, metadata={"format": "pt"})
    body = load_body(str(tmp_path), stored=True)
    whole = load_model(str(tmp_path), architecture=ARCHITECTURES["llama"], stored=True)
    for model, start in ((body, f"{prefix}model."), (whole, prefix)):
        assert precisions(model) == {torch.bfloat16}
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter.float(), weights[f"{start}{name}"].float())


@pytest.mark.parametrize("other", [torch.float32, torch.float16])
def test_one_matrix_of_another_precision_makes_all_float32(tmp_path, other):
    make_model("llama").bfloat16().save_pretrained(tmp_path)
    name = "model.layers.1.mlp.up_proj.weight"
    weights = change(tmp_path, {name: torch.rand(48, 24).to(other)})
    body = load_body(str(tmp_path), stored=True)
    assert precisions(body) == {torch.float32}
    assert torch.equal(body.layers[1].mlp.up_proj.weight, weights[name].float())


def test_a_head_that_is_not_read_decides_nothing(tmp_path):
    make_model("bert").bfloat16().save_pretrained(tmp_path)
    change(tmp_path, {"classifier.weight": torch.rand(3, 24)})
    assert precisions(load_body(str(tmp_path), stored=True)) == {torch.bfloat16}


BUFFERS = {
    "bert": {
        "bert.embeddings.position_ids": torch.arange(80)[None],
        "bert.embeddings.token_type_ids": torch.zeros(1, 80, dtype=torch.int64),
    },
    "gpt2": {
        f"transformer.h.{layer}.attn.bias": torch.ones(1, 1, 80, 80, dtype=torch.bool)
        for layer in range(3)
    },
    "gpt2-float": {
        name: value
        for layer in range(3)
        for name, value in (
            (f"transformer.h.{layer}.attn.bias", torch.ones(1, 1, 80, 80)),
            (f"transformer.h.{layer}.attn.masked_bias", torch.tensor(-1e4)),
        )
    },
    "llama": {
        f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(3) for layer in range(3)
    },
}


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("buffers", sorted(BUFFERS))
def test_buffers_in_a_file_decide_nothing(tmp_path, buffers, precision):
    family = buffers.split("-")[0]
    model = make_model(family).to(precision)
    model.save_pretrained(tmp_path)
    change(tmp_path, BUFFERS[buffers])
    for place in (tmp_path, tmp_path / "alone"):
        loaded = load_model(
            str(place), architecture=ARCHITECTURES[family], with_head=True, stored=True
        )
        assert precisions(loaded) == {precision}
        assert precisions(load_body(str(place), stored=True)) == {precision}
        if place is tmp_path:  # and again with the names of a body alone
            base = f"{model.base_model_prefix}."
            model.config.save_pretrained(tmp_path / "alone")
            weights = load_file(tmp_path / "model.safetensors")
            save_file(
                {name.removeprefix(base): weight for name, weight in weights.items()},
                tmp_path / "alone" / "model.safetensors",
                metadata={"format": "pt"},
            )


def test_a_body_in_shards(tmp_path):
    model = make_model("bert").bfloat16()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    body = load_body(str(tmp_path), stored=True)
    weights = model.base_model.state_dict()
    loaded = [(n, p) for n, p in body.named_parameters() if not n.startswith("pooler")]
    assert all(torch.equal(p.bfloat16(), weights[n]) for n, p in loaded)


@pytest.fixture
def coarse(raw_recipe, tokenizer, tmp_path):
    """A recipe whose teacher is stored in bfloat16."""
    make_model(vocabulary=len(tokenizer)).bfloat16().save_pretrained(tmp_path / "coarse")
    tokenizer.save_pretrained(tmp_path / "coarse")
    objectives = {"relations": {}, "hidden_states": {}, "logits": {}}
    raw_recipe["stages"][0] |= {"objectives": objectives, "max_steps": 3}
    return raw_recipe | {"teacher": str(tmp_path / "coarse")}


def test_a_teacher_is_held_in_the_precision_of_its_file(coarse, tmp_path):
    setup = prepare(coarse)
    student, teacher = build_models(setup, build_accelerator(setup.recipe.training, tmp_path))
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert {p.dtype for p in teacher.model.parameters() if p.dim() == 2} == {torch.bfloat16}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("copy", [None, {"layers": "mean", "width": "svd"}])
def test_a_run_gives_the_student_of_a_teacher_in_float32(
    coarse, tmp_path, monkeypatch, precision, copy
):
    coarse["training"]["precision"] = precision
    coarse["student"]["init_from_teacher"] = copy
    distill(coarse, tmp_path / "stored")
    monkeypatch.setattr(
        assemble, "load_model", lambda name, stored=False, **given: load_model(name, **given)
    )
    train(coarse, tmp_path / "float32")
    same_run(tmp_path / "stored", tmp_path / "float32")
