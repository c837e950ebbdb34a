"""A quantized teacher runs in 8 or 4 bits: near the original, and everywhere another teacher."""

import pytest
import torch
from conftest import TOKENS, make_batch, make_model
from torch import nn

from limbeck.activations import Needs
from limbeck.errors import MissingExtraError
from limbeck.generation.decoding import DecodingOptions, generate
from limbeck.generation.direct import can_read_directly
from limbeck.generation.readers import Readers
from limbeck.generation.rules import Student
from limbeck.models import quantized
from limbeck.models.families import ARCHITECTURES
from limbeck.models.int4_linear import Int4Linear
from limbeck.models.load import load_model
from limbeck.models.quantized import quantize_layers
from limbeck.recipe.check import check, prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.cacheable import manifest_of, teacher_identity
from limbeck.run.models import build_models
from limbeck.run.plan import plan_tables
from limbeck.run.probe import probe
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
    if isinstance(module, Int4Linear):
        return sum(buffer.nbytes for buffer in module.buffers())
    parts = module.weight.__tensor_flatten__()[0]
    return sum(getattr(module.weight, part).nbytes for part in parts)


@pytest.mark.parametrize(("kind", "most"), [("int8", 0.1), ("int4", 0.5)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_signals_of_a_quantized_model_are_near_those_of_the_original(
    tmp_path, family, precision, kind, most
):
    make_model(family, **FAMILIES[family]).to(precision).save_pretrained(tmp_path)
    architecture, batch = ARCHITECTURES[family], make_batch()
    load = {"architecture": architecture, "with_head": bool(architecture.head) or None}
    models = [load_model(str(tmp_path), stored=stored, **load) for stored in (False, True)]
    tables = {id(p): p.dtype for p in models[1].get_input_embeddings().parameters()}
    quantize_layers(models[1], architecture, kind)
    needs = Needs(hidden=frozenset({0, 1}), queries=frozenset({0}))
    one, other = (LiveTeacher(model, architecture).signals(batch, needs) for model in models)
    pairs = [(one.hidden[0], other.hidden[0]), (one.hidden[1], other.hidden[1])]
    pairs.append((one.queries[0], other.queries[0]))
    for exact, near in pairs:
        assert near.dtype == torch.float32
        error = (near - exact).norm() / exact.norm()
        assert 0 < error < most
    left = {id(p): p.dtype for p in models[1].get_input_embeddings().parameters()}
    assert left == tables


@pytest.mark.parametrize(("kind", "share"), [("int8", 0.3), ("int4", 5 / 32 + 1e-6)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_matrix_takes_a_part_of_float32(family, kind, share):
    model = make_model(family, **FAMILIES[family])
    before = sum(p.nbytes for n, p in model.named_parameters() if ".0." in n and p.dim() == 2)
    quantize_layers(model, ARCHITECTURES[family], kind)
    layers = nn.Linear | Int4Linear
    now = [m for n, m in model.named_modules() if ".0." in n and isinstance(m, layers)]
    assert sum(held(module) for module in now) < share * before
    assert all(module.bias is None or module.bias.dtype == torch.float32 for module in now)


@pytest.mark.parametrize("inputs", [64, 33])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_four_bits_are_those_of_plain_loops(inputs, kind):
    chance = torch.Generator().manual_seed(0)
    weight = torch.randn(5, inputs, generator=chance).to(kind)
    weight[0] = 0.25  # no step at all
    bias = nn.Parameter(torch.randn(5, generator=chance))
    layer, size = Int4Linear(weight, bias), 32 if inputs % 32 == 0 else inputs
    for row in range(5):
        for start in range(0, inputs, size):
            group = weight[row, start : start + size].double()
            least = group.min().half().double()
            step = ((group.max() - group.min()).float() / 15).half().double()
            for column, value in enumerate(group, start):
                number = min(15, max(0, round(float((value - least) / step)))) if step else 0
                found = float(layer.weight[row, column])
                assert found == pytest.approx(float(least + number * step), rel=1e-6)
                assert abs(found - float(value)) <= 0.51 * float(step) + 1e-3 * float(least.abs())
    given = torch.randn(2, 3, inputs, generator=chance)
    wanted = torch.einsum("brc,oc->bro", given, layer.weight) + bias
    assert torch.allclose(layer(given), wanted, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(given).dtype == torch.bfloat16
    assert torch.isfinite(Int4Linear(weight.double() * 1e6, None).weight).all()


def quantized_recipe(raw, kind="int8"):
    model = raw["teacher"]
    raw["teacher"] = {**(model if isinstance(model, dict) else {"model": model})}
    raw["teacher"]["quantize"] = kind
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


@pytest.mark.parametrize(("kind", "most"), [("int8", 0.05), ("int4", 0.3)])
def test_the_plan_shows_the_error_of_the_signals(raw_recipe, tmp_path, kind, most):
    setup = prepare(quantized_recipe(raw_recipe, kind))
    error = quantization_error(setup, build_accelerator(setup.recipe.training, tmp_path))
    assert len(error.hidden) == setup.models.teacher.shape.num_hidden_layers
    assert all(0 < value < most for value in error.hidden)
    assert error.tokens > 0
    assert 0 <= error.divergence < 0.1
    assert 0.4 < error.agreement <= 1
    probes = [probe(setup, n) for n in range(len(setup.stages))]
    assert f"Teacher in {kind}" in dict(plan_tables(setup, probes))
    assert f"Teacher in {kind}" not in dict(plan_tables(setup, None))
    plain = {**raw_recipe, "teacher": raw_recipe["teacher"]["model"]}
    assert probes[0].memory["teacher"] < probe(prepare(plain), 0).memory["teacher"]


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
    assert not check(raw)[1]
    raw["teacher"]["quantize"] = "int3"
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


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_quantized_teacher_generates_what_its_own_forward_does(decoder, kind):
    """And stays quantized meanwhile: no reader holds its matrices in full."""
    model = load_model(decoder, architecture=ARCHITECTURES["llama"], with_head=True).eval()
    quantize_layers(model, ARCHITECTURES["llama"], kind)
    found = [
        generate(
            model,
            None,
            [[5, 6, 7], [8, 9]],
            Student(),
            options=DecodingOptions(6, temperature=0.0),
            vocabulary=TOKENS,
            eos_token_id=0,
            readers=readers,
        ).tokens
        for readers in (Readers(), None)
    ]
    assert torch.equal(*found)
    assert not can_read_directly(model)
