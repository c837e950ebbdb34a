"""Students that were trained before: their initialization, whole runs, and what they cannot be."""

from pathlib import Path

import pytest
import torch
from conftest import SMALL_VOCABULARY, make_model, stopped_and_whole, train
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from limbeck.models import weight_files, weight_headers
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_body, load_config
from limbeck.models.weight_headers import has_vocabulary_head
from limbeck.recipe.check import check, prepare
from limbeck.recipe.read import override
from limbeck.run.accelerator import build_accelerator
from limbeck.run.distill import distill
from limbeck.run.models import build_models
from limbeck.run.plan import plan_tables
from limbeck.run.probe import probe


@pytest.fixture(scope="session")
def small_encoder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("small-encoder")
    make_model(vocabulary=len(tokenizer), hidden=16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def of_decoders(raw_recipe, decoder, prompts, trained):
    """A recipe whose student is one that an earlier run has left."""
    raw_recipe["teacher"] = decoder
    raw_recipe["data"] = {"prompts": prompts, "max_length": 40, "max_new_tokens": 16}
    stage = {"objectives": {"labels": {}, "logits": {}}, "max_steps": 2, "batch_size": 4}
    raw_recipe["stages"] = [stage]
    return raw_recipe | {"student": str(trained(raw_recipe) / "student")}


def initial_weights(raw, tmp_path):
    setup = prepare(raw)
    student, _ = build_models(setup, build_accelerator(setup.recipe.training, tmp_path))
    return student.state_dict()


def test_a_student_begins_with_all_of_its_weights(raw_recipe, small_encoder, tmp_path):
    raw_recipe["student"] = small_encoder
    raw_recipe["stages"][0]["objectives"] = {"labels": {}, "logits": {}}
    mine, theirs = (
        initial_weights(raw_recipe, tmp_path),
        load_file(f"{small_encoder}/model.safetensors"),
    )
    assert theirs.keys() <= mine.keys()
    assert all(torch.equal(mine[name], weight) for name, weight in theirs.items())


@pytest.mark.parametrize("policy", ["corpus", "switch"])
def test_a_stopped_run_resumes_to_the_same_student(of_decoders, tmp_path, monkeypatch, policy):
    of_decoders["stages"][0] |= {"policy": policy, "max_steps": 4}
    of_decoders["training"]["save_steps"] = 2
    whole, again = stopped_and_whole(of_decoders, tmp_path, monkeypatch, 3)
    before = load_file(f"{of_decoders['student']}/model.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert whole.keys() == before.keys()
    assert any(not torch.equal(whole[name], before[name]) for name in whole)


def test_a_method_stands_over_a_name_alone(of_decoders, tmp_path):
    recipe = of_decoders | {"method": "long-sequence"}
    del recipe["stages"][0]["objectives"]
    run = distill(recipe, tmp_path / "run")
    card = (run.student / "README.md").read_text(encoding="utf-8")
    assert f"continued from `{of_decoders['student']}`" in card and "are low-rank" in card
    problems = dict(check({**of_decoders, "student": str(run.student)})[1])
    assert "has low-rank layers; export it dense" in problems["student.model"]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # asked by peft
@pytest.mark.parametrize("kind", ["llama", "bert", "body"])
def test_adapters_alone_load_upon_the_student(request, small_encoder, tokenizer, tmp_path, kind):
    automatic: type = AutoModelForMaskedLM
    if kind == "llama":
        raw, automatic = request.getfixturevalue("of_decoders"), AutoModelForCausalLM
    else:
        raw = request.getfixturevalue("raw_recipe") | {"student": small_encoder}
    objectives: dict = {"labels": {}}
    if kind == "body":
        deep = make_model(vocabulary=len(tokenizer), hidden=16, layers=4)  # 24 linear layers
        deep.base_model.save_pretrained(tmp_path / "body")
        tokenizer.save_pretrained(tmp_path / "body")
        raw, automatic = raw | {"student": str(tmp_path / "body")}, AutoModel
        objectives = {"relations": {}}
    additions = {"kind": "lora", "target_modules": "all", "rank": 2, "export": "adapters"}
    raw["student"] = {"model": raw["student"], "low_rank": additions}
    raw["stages"][0] |= {"objectives": objectives, "optimizer": {"learning_rate": 0.01}}
    run = distill(raw, tmp_path / "run")
    base = automatic.from_pretrained(raw["student"]["model"])
    tokens = {"input_ids": torch.arange(5, 25)[None]}
    with torch.no_grad():
        before = base(**tokens)[0]
        added = PeftModel.from_pretrained(base, tmp_path / "run" / "adapters")(**tokens)[0]
        merged = automatic.from_pretrained(run.student)(**tokens)[0]
    torch.testing.assert_close(added, merged, rtol=1e-4, atol=1e-5)
    assert (added - before).abs().max() > 1e-3
    folder = tmp_path / "run" / "adapters"
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size < (run.student / "model.safetensors").stat().st_size


def test_a_head_that_came_with_the_student_stays(of_decoders, tmp_path):
    of_decoders["stages"][0]["objectives"] = {"hidden_states": {"layers": "uniform"}}
    run = distill(of_decoders, tmp_path / "run")
    _, facts = AutoModelForCausalLM.from_pretrained(run.student, output_loading_info=True)
    assert not facts["missing_keys"]


def test_a_checkpoint_in_bfloat16_is_trained_in_float32(of_decoders, tmp_path):
    folder = of_decoders["student"]
    AutoModelForCausalLM.from_pretrained(folder).bfloat16().save_pretrained(tmp_path / "coarse")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "coarse")
    of_decoders["student"] = {"model": str(tmp_path / "coarse"), "low_rank": {"rank": 4}}
    setup = prepare(of_decoders)
    accelerator = build_accelerator(setup.recipe.training, tmp_path)
    for copy in (True, False):
        student, _ = build_models(setup, accelerator, copy=copy)
        assert {weight.dtype for weight in student.parameters()} == {torch.float32}
    assert probe(setup, 0).seconds_per_step > 0


def test_fields_may_be_laid_over_a_name_alone(of_decoders):
    override(of_decoders, "student.low_rank", {"rank": 4})
    assert prepare(of_decoders).recipe.student.low_rank.rank == 4


def test_a_body_on_the_hub_gets_no_head(of_decoders, tmp_path, monkeypatch):
    folder = Path(of_decoders["student"])
    config = load_config(str(folder))
    kept = {"model.safetensors": str(folder / "model.safetensors")}
    monkeypatch.setattr(weight_files, "try_to_load_from_cache", lambda _, file: kept.get(file))
    monkeypatch.setattr(weight_headers, "load_config", lambda _: config)
    architecture = ARCHITECTURES["llama"]
    assert has_vocabulary_head("some/model", architecture=architecture) is True
    body = AutoModel.from_pretrained(folder)
    body.save_pretrained(tmp_path / "body", max_shard_size="20KB")
    kept = {file.name: str(file) for file in (tmp_path / "body").iterdir()}
    assert has_vocabulary_head("some/model", architecture=architecture) is False
    del kept[next(name for name in kept if name.endswith(".safetensors"))]
    assert has_vocabulary_head("some/model", architecture=architecture) is None


def test_the_plan_says_where_the_initialization_comes_from(of_decoders):
    setup = prepare(of_decoders)
    assert probe(setup, 0).seconds_per_step > 0
    tables = dict(plan_tables(setup, None))
    assert tables["Initialization"][1] == ["student", of_decoders["student"]]


def test_a_student_may_have_tokens_of_its_own(raw_recipe, vocabulary, tmp_path):
    raw_recipe["student"] |= {"tokenizer": vocabulary}
    raw_recipe["stages"][0]["objectives"] = {"labels": {}}
    before = train(raw_recipe, tmp_path / "before") / "student"
    raw_recipe["student"] = {"model": str(before)}
    raw_recipe["stages"][0] |= {"alignment": "match", "objectives": {"relations": {}, "logits": {}}}
    run = distill(raw_recipe, tmp_path / "run")
    sizes = [load_body(str(f)).config.vocab_size for f in (before, run.student)]
    assert sizes == [SMALL_VOCABULARY, SMALL_VOCABULARY]


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"num_hidden_layers": 2}, "student.num_hidden_layers", "is the model's own"),
        ({"init_from_teacher": {}}, "student.init_from_teacher", "is the model's own"),
        ({"tokenizer": "x"}, "student.tokenizer", "is the model's own"),
        ({"embedding_init": "mean"}, "student.embedding_init", "is the model's own"),
        ({"model": "/nowhere/at/all"}, "student.model", "does not exist"),
        ({"model": "DECODER"}, "student.model", "is a decoder, but the teacher is an encoder"),
        ({"model": "VOCABULARY"}, "student.model", "has no config.json"),
    ],
)
def test_problems_say_what_to_change(
    raw_recipe, small_encoder, decoder, vocabulary, changes, field, message
):
    student = {"model": small_encoder, **changes}
    named = {"DECODER": decoder, "VOCABULARY": vocabulary}
    raw_recipe["student"] = student | {"model": named.get(student["model"], student["model"])}
    setup, problems = check(raw_recipe)
    assert setup is None and message in dict(problems)[field]


def test_a_student_with_embeddings_takes_no_mixed_stage(raw_recipe, vocabulary, tmp_path):
    make_model(vocabulary=SMALL_VOCABULARY, hidden=16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(vocabulary).save_pretrained(tmp_path)
    raw_recipe["student"] = str(tmp_path)
    raw_recipe["stages"].insert(0, {"mixed": {}, "max_steps": 2, "batch_size": 4})
    problems = dict(check(raw_recipe)[1])
    assert "leave one out" in problems["student.model"]


def test_a_tokenizer_of_more_tokens_than_the_student_has(raw_recipe, tmp_path, tokenizer):
    make_model(vocabulary=len(tokenizer) - 9, hidden=16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    raw_recipe["student"] = str(tmp_path)
    problems = dict(check(raw_recipe)[1])
    assert f"its tokenizer {len(tokenizer)} tokens" in problems["student.model"]


def test_models_of_a_family_without_a_vocabulary_head_are_measured_without_one(
    raw_recipe, tokenizer, tmp_path
):
    for name, seed in (("teacher", 0), ("student", 1)):
        model = make_model("t5", vocabulary=len(tokenizer), seed=seed)
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    raw_recipe["teacher"] = str(tmp_path / "teacher")
    stage = {"objectives": {"hidden_states": {"layers": "last"}}, "max_steps": 1, "batch_size": 4}
    own = raw_recipe | {"student": str(tmp_path / "student"), "stages": [stage]}
    assert distill(own, tmp_path / "own").report["held_out_text"] == {}
    # A student that has a head, beside a teacher that has none to agree with.
    stage["objectives"]["labels"] = {}
    raw_recipe["student"]["model_type"] = "bert"
    held_out = distill(raw_recipe | {"stages": [stage]}, tmp_path / "other").report["held_out_text"]
    assert held_out.keys() == {"bits_per_byte"}
