"""A file with a separate head, although the configuration says that it is tied."""

import json

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from limbeck.export.pretrained import export_student
from limbeck.models import tied_head
from limbeck.models.auto_classes import language_model_class
from limbeck.models.families import ARCHITECTURES
from limbeck.models.families.lookup import architecture_of
from limbeck.models.load import load_config, load_model, load_with_head
from limbeck.models.shapes import shape_of
from limbeck.student.layer_copy import copy_layers
from limbeck.student.shape import build_student, student_config
from limbeck.student.width import Width

WHOLE = [[0], [1], [2]]


def logits(model):
    batch = make_batch()
    with torch.no_grad():
        mask = batch.student.mask.long()
        return model(input_ids=batch.student.input_ids, attention_mask=mask).logits


def untied(family):
    """A model whose configuration says tied, and whose head has other numbers."""
    model = make_model(family)
    head = model.get_output_embeddings()
    table = model.get_input_embeddings()
    model.config.tie_word_embeddings = True
    head.weight = torch.nn.Parameter(table.weight.detach().flip(0).clone())
    if head.bias is not None:
        with torch.no_grad():
            head.bias.copy_(torch.linspace(-1, 1, len(head.bias)))
    return model


@pytest.mark.parametrize("shards", ["5GB", "20KB"])
@pytest.mark.parametrize("family", [f for f in FAMILIES if ARCHITECTURES[f].head])
def test_a_whole_copy_gives_what_its_teacher_gives(family, shards, tokenizer, tmp_path):
    if shards != "5GB" and family not in ("bert", "llama"):
        return
    architecture = ARCHITECTURES[family]
    untied(family).save_pretrained(tmp_path / "teacher", max_shard_size=shards)
    place = str(tmp_path / "teacher")
    assert AutoConfig.from_pretrained(place).tie_word_embeddings
    config = load_config(place)
    assert not config.tie_word_embeddings
    teacher = load_model(place, architecture=architecture, with_head=True)
    right = logits(language_model_class(causal=architecture.causal).from_pretrained(place).eval())
    assert torch.equal(logits(teacher), right)
    shape = shape_of(config, architecture)
    own = student_config(config, architecture, shape, copied_layers=WHOLE)
    student = build_student(own, seed=1, architecture=architecture)
    copy_layers(student, teacher, architecture, layers=WHOLE, width=Width.CUT, calibration=[])
    assert torch.equal(logits(student), right)
    export_student(student, tokenizer, tmp_path / "student", with_head=True, card="")
    kind = language_model_class(causal=architecture.causal)
    again, facts = kind.from_pretrained(tmp_path / "student", output_loading_info=True)
    assert not facts["missing_keys"] and not again.config.tie_word_embeddings
    assert torch.equal(logits(again.eval()), right)
    first = load_with_head(place, architecture=architecture, seed=0)
    assert torch.equal(logits(first), right)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_head_that_is_saved_and_the_same_stays_tied(family, tmp_path):
    model = make_model(family)
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    head.weight = torch.nn.Parameter(table.weight.detach().clone())
    model.save_pretrained(tmp_path)
    assert f"{ARCHITECTURES[family].output or 'lm_head'}.weight" in load_file(
        tmp_path / "model.safetensors"
    )
    assert load_config(str(tmp_path)).tie_word_embeddings
    loaded = load_model(str(tmp_path), architecture=ARCHITECTURES[family], with_head=True)
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


@pytest.mark.parametrize("halved", ["table", "head"])
@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_the_same_numbers_in_another_precision_are_tied(halved, precision, tmp_path):
    make_model("llama").to(precision).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    table = weights["model.embed_tokens.weight"]
    own = (table, table.float()) if halved == "table" else (table.float(), table.clone())
    save_file(
        weights | {"model.embed_tokens.weight": own[0], "lm_head.weight": own[1]},
        file,
        metadata={"format": "pt"},
    )
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    assert load_config(str(tmp_path)).tie_word_embeddings
    for stored in (False, True):
        loaded = load_model(
            str(tmp_path), architecture=ARCHITECTURES["llama"], with_head=True, stored=stored
        )
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
        assert torch.equal(loaded.lm_head.weight.float(), table.float())
    if halved == "table":
        assert (
            loaded.lm_head.weight.dtype == precision
        )  # the head is the table, and decides nothing


def test_reading_a_configuration_again_builds_no_model(tmp_path, monkeypatch):
    untied("bert").save_pretrained(tmp_path)
    assert not load_config(str(tmp_path)).tie_word_embeddings
    monkeypatch.setattr(tied_head, "whole_class", None)
    assert not load_config(str(tmp_path)).tie_word_embeddings


def test_the_head_of_a_deberta_is_the_one_in_its_files(tmp_path):
    model = make_model("deberta-v2", legacy=False)
    model.config.legacy = True  # as the published files of version 3 leave it
    model.save_pretrained(tmp_path)
    config = load_config(str(tmp_path))
    loaded = load_model(str(tmp_path), architecture=architecture_of(config), with_head=True)
    assert torch.equal(logits(loaded), logits(model))
