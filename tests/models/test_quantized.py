"""A quantized teacher runs in 8 bits: near the original, and everywhere another teacher."""

import pytest
import torch
from conftest import make_batch, make_model
from torch import nn

from limbeck.activations import Needs
from limbeck.errors import MissingExtraError
from limbeck.models import quantized
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_model
from limbeck.models.quantized import quantize_layers
from limbeck.recipe.check import check, prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.cacheable import manifest_of, teacher_identity
from limbeck.run.models import build_models
from limbeck.run.plan import plan_tables, probe
from limbeck.run.quantization import QuantizationError, quantization_error, quantization_rows
from limbeck.teacher.live import LiveTeacher
from limbeck.teacher.manifest import Kind

SIZES = {"hidden": 64, "layers": 2}
FAMILIES = {
    "bert": SIZES,
    "gpt2": SIZES,
    "llama": SIZES | {"head_dim": 16},
    "falcon": SIZES,
    "t5": SIZES | {"d_kv": 16, "d_ff": 96},
    "deberta-v2": SIZES | {"pooler_hidden_size": 64},
}


def held(module):
    """Bytes of a layer's weight."""
    if type(module.weight) is nn.Parameter:
        return module.weight.nbytes
    parts = module.weight.__tensor_flatten__()[0]
    return sum(getattr(module.weight, part).nbytes for part in parts)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_signals_of_a_quantized_model_are_near_those_of_the_original(tmp_path, family, precision):
    make_model(family, **FAMILIES[family]).to(precision).save_pretrained(tmp_path)
    architecture, batch = ARCHITECTURES[family], make_batch()
    load = {"architecture": architecture, "with_head": bool(architecture.head) or None}
    models = [load_model(str(tmp_path), stored=stored, **load) for stored in (False, True)]
    tables = {id(p): p.dtype for p in models[1].get_input_embeddings().parameters()}
    quantize_layers(models[1], architecture)
    needs = Needs(hidden=frozenset({0, 1}), queries=frozenset({0}))
    one, other = (LiveTeacher(model, architecture).signals(batch, needs) for model in models)
    pairs = [(one.hidden[0], other.hidden[0]), (one.hidden[1], other.hidden[1])]
    pairs.append((one.queries[0], other.queries[0]))
    for exact, near in pairs:
        assert near.dtype == torch.float32
        error = (near - exact).norm() / exact.norm()
        assert 0 < error < 0.1
    left = {id(p): p.dtype for p in models[1].get_input_embeddings().parameters()}
    assert left == tables


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_matrix_takes_less_than_a_third_of_float32(family):
    model = make_model(family, **FAMILIES[family])
    before = sum(p.nbytes for n, p in model.named_parameters() if ".0." in n and p.dim() == 2)
    quantize_layers(model, ARCHITECTURES[family])
    now = [m for n, m in model.named_modules() if ".0." in n and isinstance(m, nn.Linear)]
    assert sum(held(module) for module in now) < 0.3 * before
    assert all(module.bias is None or module.bias.dtype == torch.float32 for module in now)


def quantized_recipe(raw):
    model = raw["teacher"]
    raw["teacher"] = {**(model if isinstance(model, dict) else {"model": model})}
    raw["teacher"]["quantize"] = "int8"
    return raw


def test_the_student_starts_from_full_precision_and_learns_from_the_quantized(raw_recipe, tmp_path):
    plain = prepare(raw_recipe)
    setup = prepare(quantized_recipe(dict(raw_recipe)))
    accelerator = build_accelerator(setup.recipe.training, tmp_path)
    (student, teacher), (other, exact) = (build_models(s, accelerator) for s in (setup, plain))
    pairs = zip(student.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    kinds = {type(m.weight).__name__ for m in teacher.model.modules() if isinstance(m, nn.Linear)}
    assert "Int8Tensor" in kinds
    batch = make_batch(vocabulary=100)
    needs = Needs(hidden=frozenset({2}))
    one, two = (live.signals(batch, needs).hidden[2] for live in (teacher, exact))
    assert 0 < (one - two).norm() / two.norm() < 0.05
    assert probe(setup, 0).seconds_per_step > 0


def test_caches_of_a_quantized_teacher_are_of_another_teacher(raw_recipe):
    plain = prepare(raw_recipe)
    setup = prepare(quantized_recipe(dict(raw_recipe)))
    assert teacher_identity(setup) != teacher_identity(plain)
    one, other = (manifest_of(s, Kind("exact")).identity for s in (plain, setup))
    assert other == {**one, "teacher.quantize": "int8"}


def test_the_plan_shows_the_error_of_the_signals(raw_recipe, tmp_path):
    setup = prepare(quantized_recipe(raw_recipe))
    error = quantization_error(setup, build_accelerator(setup.recipe.training, tmp_path))
    assert len(error.hidden) == setup.models.teacher.shape.num_hidden_layers
    assert all(0 < value < 0.05 for value in error.hidden)
    assert error.tokens > 0
    assert 0 <= error.divergence < 0.1
    assert 0.8 < error.agreement <= 1
    tables = dict(plan_tables(setup, [probe(setup, n) for n in range(len(setup.stages))]))
    assert "Teacher in int8" in tables
    assert "Teacher in int8" not in dict(plan_tables(setup, None))


def test_the_table_names_the_worst_layer():
    rows = quantization_rows(QuantizationError((0.01, 0.03, 0.02), 0.004, 0.985, 1200))
    assert rows == [
        ["signal", "error over 1,200 tokens"],
        ["hidden states, last layer", "2.00% of their norm"],
        ["hidden states, worst layer (1)", "3.00% of their norm"],
        ["predicted tokens", "KL 0.004 nats"],
        ["the same first token", "98.5% of places"],
    ]
    assert len(quantization_rows(QuantizationError((0.01,), None, None, 5))) == 3


def test_a_missing_extra_and_other_widths_are_problems_of_the_recipe(raw_recipe, monkeypatch):
    raw = quantized_recipe(raw_recipe)
    monkeypatch.setattr(quantized, "find_spec", lambda _: None)
    _, problems = check(raw)
    [(field, said)] = problems
    assert field == "teacher.quantize"
    assert "pip install 'limbeck[quantize]'" in said
    with pytest.raises(MissingExtraError, match="need torchao"):
        quantize_layers(make_model("bert"), ARCHITECTURES["bert"])
    raw["teacher"]["quantize"] = "int4"
    _, problems = check(raw)
    assert [field for field, _ in problems] == ["teacher.quantize"]


def test_a_mixed_stage_trains_a_teacher_that_cannot_be_quantized(raw_recipe, vocabulary):
    raw = quantized_recipe(raw_recipe)
    raw["student"]["tokenizer"] = vocabulary
    raw["stages"] = [
        {"mixed": {"student_fraction": 0.5}, "max_steps": 6, "batch_size": 4},
        {"objectives": {"labels": {}}, "max_steps": 6, "batch_size": 4},
    ]
    _, problems = check(raw)
    assert problems == [
        (
            "teacher.quantize",
            "is for a teacher that only runs, and a mixed stage trains it; leave it out",
        )
    ]
