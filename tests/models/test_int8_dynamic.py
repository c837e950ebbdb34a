"""Products of 8 bits: those of plain loops, the same whatever stands beside, and near the model."""

import copy
import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import all_needs, losses, make_batch, make_model, train
from torch import nn

from limbeck.activations import Needs
from limbeck.errors import CacheError, ModelError
from limbeck.generation.direct import can_read_directly
from limbeck.models import int8_dynamic
from limbeck.models.families import ARCHITECTURES
from limbeck.models.int8_dynamic import Int8DynamicLinear, int8_dynamic_missing, largest_weight
from limbeck.models.low_rank_layers import LowRankLinear
from limbeck.models.quantized import quantize_layers
from limbeck.recipe import check as checking
from limbeck.recipe.check import check, prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.cache import open_cache, write_cache
from limbeck.run.cacheable import manifest_of, teacher_identity
from limbeck.run.distill import distill
from limbeck.run.probe import probe
from limbeck.run.quantization import quantization_error
from limbeck.system.int8_range import int8_range
from limbeck.teacher.live import LiveTeacher
from limbeck.teacher.manifest import Kind
from limbeck.training.memory import _new_bytes

pytestmark = pytest.mark.skipif(int8_dynamic_missing() is not None, reason="no such processor")
SIZES = {"hidden": 64, "layers": 3}
FAMILIES = {
    "bert": SIZES,
    "distilbert": SIZES,
    "modernbert": SIZES,
    "gpt2": SIZES,
    "llama": SIZES | {"head_dim": 16},
    "qwen3": SIZES | {"head_dim": 16},
    "falcon": SIZES,
    "t5": SIZES | {"d_kv": 16, "d_ff": 96},
    "deberta-v2": SIZES | {"pooler_hidden_size": 64},
}


def layer_of(outputs: int, inputs: int) -> tuple[Int8DynamicLinear, torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=chance)
    weight[0] = 0
    bias = torch.randn(outputs, generator=chance)
    given = torch.randn(2, 3, inputs, generator=chance) * torch.tensor([1e-3, 1, 1e3])[:, None]
    return Int8DynamicLinear(weight, bias), weight, given


@pytest.mark.parametrize(("outputs", "inputs"), [(5, 3), (7, 33), (48, 64)])
def test_products_are_those_of_plain_loops(outputs, inputs):
    layer, weight, given = layer_of(outputs, inputs)
    most = largest_weight()
    found = layer(given)
    for text in range(2):
        for place in range(3):
            token = given[text, place]
            step = float(token.abs().max()) / 126
            whole = [round(float(value) / step) for value in token]
            for output in range(outputs):
                row = weight[output]
                scale = float(row.abs().max()) / most or 1.0
                total = 0
                for number, value in zip(whole, row, strict=True):
                    total += number * max(-most, min(most, round(float(value) / scale)))
                wanted = total * step * scale + float(layer.bias[output])
                assert float(found[text, place, output]) == pytest.approx(
                    wanted, rel=1e-4, abs=1e-5
                )


def test_what_a_token_gives_does_not_depend_on_those_beside_it():
    layer, _, given = layer_of(48, 64)
    assert torch.equal(layer(given)[1:], layer(given[1:]))
    assert torch.equal(layer(given)[:, 1], layer(given[:, 1].clone()))
    zeros = layer(torch.zeros(1, 64))
    assert torch.equal(zeros[0], layer.bias)


def test_what_is_not_finite_stays_so():
    layer, _, given = layer_of(5, 3)
    for value in (torch.nan, torch.inf):
        given[0, 0, 0] = value
        assert not layer(given)[0, 0, 1:].isfinite().any()
        assert layer(given)[0, 1:].isfinite().all()


def test_under_autocast_the_products_are_rounded_as_those_of_a_plain_layer():
    layer, weight, given = layer_of(48, 64)
    plain = nn.Linear(64, 48)
    plain.weight.data, plain.bias.data = weight, layer.bias.clone()
    exact = layer(given)
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = layer(given), plain(given)
    assert found.dtype == wanted.dtype == torch.bfloat16
    assert (found.float() - exact).norm() < 0.01 * exact.norm()


def test_no_sum_saturates_on_a_processor_without_vnni():
    """The largest numbers of both sides, on oneDNN limited to AVX2."""
    code = (
        "import json, torch\n"
        "from limbeck.models.int8_dynamic import Int8DynamicLinear, largest_weight\n"
        "layer = Int8DynamicLinear(torch.ones(4, 64), None)\n"
        "print(json.dumps([largest_weight(), *layer(torch.ones(3, 64)).flatten().tolist()]))\n"
    )
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **limits},
        capture_output=True,
        text=True,
        check=True,
    )
    largest, *found = json.loads(done.stdout.splitlines()[-1])
    assert largest == 63
    assert found == pytest.approx([64.0] * 12, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_signal_is_near_that_of_the_model(family):
    model, architecture = make_model(family, **FAMILIES[family]).eval(), ARCHITECTURES[family]
    other = copy.deepcopy(model)
    quantize_layers(other, architecture, "int8_dynamic")
    assert not any(
        type(m) is nn.Linear for m in other.base_model.get_submodule(architecture.layers).modules()
    )
    batch, wanted = make_batch(), all_needs(family).tensors()
    exact, near = (LiveTeacher(m, architecture).tensors(batch, wanted) for m in (model, other))
    mask = batch.teacher.mask
    for name, tensor in exact.items():
        pair = (tensor, near[name])
        if tensor.shape[:2] == mask.shape:
            pair = (tensor[mask], near[name][mask])
        if name[0] == "embeddings":
            assert torch.equal(*pair)
            continue
        error = float((pair[1] - pair[0]).norm() / pair[0].norm())
        # Without VNNI weights have 7 bits.
        assert 0 < error < (0.2 if int8_range().reduced else 0.15), (name, error)


def test_low_rank_layers_are_rounded_inside():
    model = make_model("bert", **SIZES)
    dense = model.base_model.encoder.layer[0].intermediate
    dense.dense = LowRankLinear(64, 48, 8, bias=True)
    quantize_layers(model, ARCHITECTURES["bert"], "int8_dynamic")
    assert isinstance(dense.dense.up, Int8DynamicLinear)


def test_the_memory_of_the_layout_is_counted():
    layer, weight, _ = layer_of(48, 64)
    matrices = 2 * weight.numel()
    assert matrices < _new_bytes(layer.buffers(), set()) < matrices + 20 * len(weight)


def quantized_recipe(raw: dict) -> dict:
    return {**raw, "teacher": {"model": raw["teacher"], "quantize": "int8_dynamic"}}


def test_what_was_cached_trains_as_the_teacher_beside_the_student(raw_recipe, tmp_path):
    raw = quantized_recipe(raw_recipe)
    raw["training"] = {**raw["training"], "logging_steps": 1, "save_steps": 2}
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, tmp_path)
    assert all(0 < value < 0.1 for value in quantization_error(setup, accelerator).hidden)
    write_cache(setup, tmp_path / "signals", Kind("exact"), accelerator)
    cached = {**raw, "teacher": {**raw["teacher"], "cache": str(tmp_path / "signals")}}
    train(raw, tmp_path / "beside")
    distill(cached, tmp_path / "stored")
    assert losses(tmp_path / "beside") == losses(tmp_path / "stored")
    assert probe(prepare(cached), 0).seconds_per_step > 0
    plain = {**raw, "teacher": {"model": raw_recipe["teacher"], "cache": str(tmp_path / "signals")}}
    with pytest.raises(CacheError, match=r"teacher\.quantize"):
        open_cache(prepare(plain), torch.device("cpu"))


def test_signals_are_of_another_teacher_than_those_in_full_precision(raw_recipe):
    plain, setup = prepare(raw_recipe), prepare(quantized_recipe(raw_recipe))
    assert teacher_identity(plain) != teacher_identity(setup)
    one, other = (manifest_of(s, Kind("exact")).identity for s in (plain, setup))
    assert other == {**one, "teacher.quantize": "int8_dynamic"}


def test_a_gpu_and_a_processor_without_such_products_are_problems_of_the_recipe(
    raw_recipe, monkeypatch
):
    raw = quantized_recipe(raw_recipe)
    kept = {**raw, "teacher": {**raw["teacher"], "cache": "anywhere"}}
    with monkeypatch.context() as patched:
        patched.setattr(checking, "choose_device", lambda _: torch.device("cuda"))
        _, problems = check(raw)
        assert "teacher.quantize" not in dict(check(kept)[1])  # it ran elsewhere
    [(field, said)] = [one for one in problems if one[0] == "teacher.quantize"]
    assert "the device is cuda" in said
    monkeypatch.setattr(int8_dynamic.platform, "machine", lambda: "arm64")
    _, problems = check(raw)
    [(field, said)] = problems
    assert field == "teacher.quantize"
    assert "x86-64" in said
    with pytest.raises(ModelError, match="AVX2"):
        quantize_layers(make_model("bert"), ARCHITECTURES["bert"], "int8_dynamic")


def test_generation_reads_it_by_its_own_forward():
    model = make_model("llama", **FAMILIES["llama"]).eval()
    quantize_layers(model, ARCHITECTURES["llama"], "int8_dynamic")
    assert not can_read_directly(model)
    needs = Needs(predictions=True)
    batch = make_batch()
    logits = LiveTeacher(model, ARCHITECTURES["llama"]).signals(batch, needs).predictions.logits()
    assert torch.isfinite(logits).all()
