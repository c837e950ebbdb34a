"""A run with every family of the table: stopped and resumed, exported, read from a cache."""

import json

import pytest
import torch
from conftest import FAMILIES, all_needs, make_batch, make_model, make_tokenizer, resumed_and_cached

import limbeck
from limbeck.models.capture import capture_tensors
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_model
from limbeck.recipe.check import check
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.load import load_tokenizer


@pytest.fixture
def recipe(raw_recipe, tmp_path, text_file):
    """A recipe whose teacher and student are of a family."""

    def of(family: str) -> dict:
        architecture = ARCHITECTURES[family]
        if architecture.causal:
            tokenizer = learn_tokenizer(
                text_file.read_text(encoding="utf-8").splitlines(),
                blank_tokenizer("bytes", lowercase=False),
                vocab_size=300,
            )
        else:
            tokenizer = make_tokenizer(padding_id=architecture.padding_id or 3)
        folder = tmp_path / "teacher"
        model = make_model(family, vocabulary=len(tokenizer))
        if architecture.positions_after_padding or not architecture.causal:
            model.config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        last = {"teacher_layer": 2, "student_layer": 1}
        objectives = {"relations": dict(last), "hidden_states": {"layers": {1: 2}}}
        if architecture.head:
            objectives["logits"] = {}
        stage = {"objectives": objectives, "max_steps": 4, "batch_size": 4}
        student = {"num_hidden_layers": 2, "init_from_teacher": {"layers": [0, 2]}}
        return raw_recipe | {
            "teacher": str(folder),
            "student": student,
            "stages": [stage],
            "training": {**raw_recipe["training"], "save_steps": 1},
        }

    return of


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_resumes_learns_the_same_from_a_cache_and_loads(
    family, recipe, tmp_path, monkeypatch
):
    raw = recipe(family)
    resumed_and_cached(raw, tmp_path, monkeypatch)
    log = (tmp_path / "whole" / "log.jsonl").read_text(encoding="utf-8")
    losses = [json.loads(line).get("loss", 1.0) for line in log.splitlines()]
    assert all(loss > 0 for loss in losses)
    model, tokenizer = limbeck.load(str(tmp_path / "whole"))
    assert len(tokenizer) == len(load_tokenizer(raw["teacher"])) <= model.config.vocab_size
    assert model.config.num_hidden_layers == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_is_loaded_as_it_was(family, tmp_path):
    model, architecture = make_model(family), ARCHITECTURES[family]
    model.save_pretrained(tmp_path)
    loaded = load_model(
        str(tmp_path), architecture=architecture, with_head=True if architecture.head else None
    )
    tokens, wanted = make_batch().student, all_needs(family).tensors()
    with torch.no_grad():
        mine, theirs = (capture_tensors(m, architecture, tokens, wanted) for m in (model, loaded))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_documents_are_not_isolated_where_a_family_cannot(recipe):
    raw = recipe("bloom")
    raw["data"] = {**raw["data"], "packing": True, "isolate_documents": True}
    _, problems = check(raw)
    assert any(place == "data.isolate_documents" for place, _ in problems)


def test_a_narrower_student_keeps_heads_of_a_width_of_their_own(recipe, tmp_path):
    raw = recipe("qwen3")
    tokenizer = load_tokenizer(raw["teacher"])
    make_model("qwen3", vocabulary=len(tokenizer), head_dim=8).save_pretrained(raw["teacher"])
    sizes = {"hidden_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1}
    setup, problems = check(raw | {"student": {**raw["student"], **sizes}})
    assert problems == []
    assert setup.models.student.shape.head_dim == 8 and setup.models.student.config.head_dim == 8


def test_a_padding_token_that_the_family_does_not_expect_is_refused(recipe):
    raw = recipe("mpnet")
    make_tokenizer().save_pretrained(raw["teacher"])
    _, problems = check(raw)
    assert any("counts positions by number 1" in message for _, message in problems)
