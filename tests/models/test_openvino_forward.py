"""Teachers on OpenVINO: the tensors of torch, whatever the family, or an error that says so."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import all_needs, losses, make_batch, make_model, same_run

from limbeck.activations import CLASS_LOGITS, SENTENCE_VECTORS
from limbeck.errors import CacheError, ModelError
from limbeck.models.capture import capture_tensors
from limbeck.models.families import ARCHITECTURES
from limbeck.models.openvino_forward import OpenVinoForward
from limbeck.models.sentences.attached import attach_vectors
from limbeck.models.sentences.vectors import SentenceVectors
from limbeck.models.task_heads import TaskHead, task_class
from limbeck.recipe import check as checking
from limbeck.recipe.check import check, prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.cache import open_cache, write_cache
from limbeck.run.cacheable import teacher_identity
from limbeck.run.distill import distill
from limbeck.run.quantization import quantization_error
from limbeck.system.int8_range import Int8Range
from limbeck.teacher.live import LiveTeacher
from limbeck.teacher.manifest import Kind
from limbeck.teacher.openvino import OpenVinoTeacher

pytest.importorskip("openvino")
pytest.importorskip("nncf")


def teacher_on_openvino(model, family, **options) -> OpenVinoTeacher:
    row = ARCHITECTURES[family]
    forward = OpenVinoForward(model, row, half=False, **options)
    return OpenVinoTeacher(model, row, forward)


def assert_same(batch, found, exact):
    assert found.keys() == exact.keys()
    for name, tensor in exact.items():
        other = found[name]
        if tensor.shape[:2] == batch.teacher.mask.shape:
            tensor, other = tensor[batch.teacher.mask], other[batch.teacher.mask]
        torch.testing.assert_close(other, tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert", "albert", "gpt2", "llama"])
def test_every_tensor_is_that_of_torch(family):
    model = make_model(family).eval()
    teacher = teacher_on_openvino(model, family)
    wanted = all_needs(family).tensors()
    for rows, length, padded in ((4, 9, True), (2, 13, True), (1, 5, False), (3, 9, False)):
        batch = make_batch(rows, length, padded=padded)
        exact = capture_tensors(model, ARCHITECTURES[family], batch.teacher, wanted)
        assert_same(batch, teacher.tensors(batch, wanted), exact)
    assert len(teacher.forward._graphs) == 2


@pytest.mark.parametrize("family", ["modernbert", "gemma3_text", "mistral"])
def test_padding_that_no_window_reaches_stays_a_number(family):
    windows = {"modernbert": {"local_attention": 4, "global_attn_every_n_layers": 3}}
    model = make_model(family, **windows.get(family, {"sliding_window": 2})).eval()
    batch = make_batch(4, 16)
    exact = capture_tensors(model, ARCHITECTURES[family], batch.teacher, {("hidden", 2)})
    found = teacher_on_openvino(model, family).tensors(batch, {("hidden", 2)})
    assert_same(batch, found, exact)
    assert found["hidden", 2].isfinite().all()


def test_heads_of_tasks_pairs_and_vectors_of_texts():
    row, batch = ARCHITECTURES["bert"], make_batch(3, 8)
    types = (torch.arange(8) > 3).long().expand(3, 8).contiguous()
    batch = replace(batch, teacher=replace(batch.teacher, token_type_ids=types))
    config = make_model("bert").config
    for kind in ("sequence", "token"):
        head = TaskHead(kind, ("a", "b", "c"))
        head.set_on(config)
        model = task_class(head).from_config(config).eval()
        exact = LiveTeacher(model, row).tensors(batch, {CLASS_LOGITS, ("hidden", 1)})
        found = teacher_on_openvino(model, "bert").tensors(batch, {CLASS_LOGITS, ("hidden", 1)})
        assert_same(batch, found, exact)
    model = make_model("bert").eval()
    attach_vectors(model, SentenceVectors(24))
    exact = LiveTeacher(model, row).tensors(batch, {SENTENCE_VECTORS})
    assert_same(batch, teacher_on_openvino(model, "bert").tensors(batch, {SENTENCE_VECTORS}), exact)


def test_a_graph_that_gives_something_else_is_refused():
    model, batch = make_model("bert").eval(), make_batch(3, 8)
    teacher = teacher_on_openvino(model, "bert")
    teacher.tensors(batch, {("hidden", 2)})
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    with pytest.raises(ModelError, match=r"BertForMaskedLM gives on OpenVINO differs .* `teacher"):
        teacher.tensors(make_batch(2, 6), {("hidden", 2)})


def test_documents_are_not_kept_apart_there():
    model, batch = make_model("llama").eval(), make_batch(3, 8)
    places = torch.arange(8).expand(3, 8) % 4
    batch = replace(batch, teacher=replace(batch.teacher, positions=places))
    with pytest.raises(ModelError, match="isolate_documents: false"):
        teacher_on_openvino(model, "llama").tensors(batch, {("hidden", 2)})


def test_in_8_bits_it_is_near():
    model, batch = make_model("bert", hidden=64).eval(), make_batch(4, 16)
    wanted = {("hidden", 2)}
    exact = LiveTeacher(model, ARCHITECTURES["bert"]).tensors(batch, wanted)[("hidden", 2)]
    text = [make_batch(4, 16).teacher.rows(row, row + 1) for row in range(4)]
    teacher = teacher_on_openvino(model, "bert", calibration=text)
    found = teacher.tensors(batch, wanted)[("hidden", 2)]
    real = batch.teacher.mask
    difference = (found - exact)[real].norm() / exact[real].norm()
    assert 1e-4 < difference < 0.1


@pytest.fixture
def raw(raw_recipe):
    raw_recipe["teacher"] = {"model": raw_recipe["teacher"], "engine": "openvino"}
    raw_recipe["stages"][0]["objectives"] = {"relations": {}, "hidden_states": {}}
    return raw_recipe


def test_a_student_learns_the_same(raw, tmp_path):
    for engine in ("openvino", "torch"):
        raw["teacher"]["engine"] = engine
        distill(raw, tmp_path / engine)
    same_run(tmp_path / "openvino", tmp_path / "torch", rounding=1e-4)
    assert losses(tmp_path / "openvino") != losses(tmp_path / "torch")


def test_what_it_does_to_signals(raw):
    errors = {}
    for engine in ("openvino", "openvino-int8"):
        raw["teacher"]["engine"] = engine
        setup = prepare(raw)
        accelerator = build_accelerator(setup.recipe.training, "unused")
        errors[engine] = quantization_error(setup, accelerator).hidden[-1]
    assert 0 < errors["openvino"] < 1e-5 < errors["openvino-int8"] < 0.2


def test_stored_signals_are_of_the_engine_that_made_them(raw, tmp_path):
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, "unused")
    write_cache(setup, tmp_path / "cache", Kind("exact"), accelerator)
    raw["teacher"]["cache"] = str(tmp_path / "cache")
    open_cache(prepare(raw), torch.device("cpu"))
    raw["teacher"]["engine"] = "torch"
    with pytest.raises(CacheError, match=r"teacher\.engine"):
        open_cache(prepare(raw), torch.device("cpu"))
    assert teacher_identity(setup) != teacher_identity(prepare(raw))


def test_what_cannot_be_is_refused(raw, monkeypatch):
    raw["teacher"] |= {"quantize": "int4", "device_map": "cpu"}
    raw["data"]["isolate_documents"] = True
    monkeypatch.setattr(checking, "openvino_missing", lambda: "needs a package")
    said = json.dumps(check(raw)[1])
    assert "teacher.engine" in said and "is openvino, which needs a package" in said
    assert "has weights of its own, which `quantize` does not change" in said
    assert "does not keep documents of one row apart" in said
    assert "is for layers that torch runs, not for `engine: openvino`" in said
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    raw["training"]["device"] = "cuda"
    assert "is for a processor, and the device is cuda" in json.dumps(check(raw)[1])


@pytest.mark.parametrize("reduced", [True, False])
def test_8_bits_without_vnni_are_told(raw, monkeypatch, reduced):
    here = Int8Range(reduced, "the processor has no VNNI", "any")
    monkeypatch.setattr(checking, "int8_range", lambda: here)
    raw["teacher"]["engine"] = "openvino-int8"
    said = " ".join(prepare(raw).warnings)
    assert ("has no VNNI; openvino-int8 is not faster than torch here" in said) == reduced


def test_nothing_is_needed_of_a_teacher_that_does_not_run(raw):
    raw["stages"] = [{"objectives": {"labels": {}}, "max_steps": 2, "batch_size": 4}]
    assert check(raw)[1] == []
