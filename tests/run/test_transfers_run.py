"""Whole runs of the transfers: decoders, schedules, heads that are trained alone, padded tables."""

import json

import pytest
import torch
from conftest import SPECIAL, make_model, make_text
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from limbeck.errors import RecipeError, TrainingError
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.distill import distill
from limbeck.run.learner import build_learner
from limbeck.run.models import build_models


@pytest.fixture(scope="module")
def decoder_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(make_text(200), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


@pytest.fixture(params=["gpt2", "llama", "qwen3"])
def decoder(request, tmp_path, decoder_tokenizer) -> str:
    folder = tmp_path / "teacher"
    make_model(request.param, vocabulary=len(decoder_tokenizer)).save_pretrained(folder)
    decoder_tokenizer.save_pretrained(folder)
    return str(folder)


def test_decoders_are_distilled_as_encoders_are(raw_recipe, decoder, tmp_path):
    objectives = {
        "logits": {"divergence": "skewed_kl"},
        "relations": {"pairs": {"QQ": 1.0, "QK": 1.0, "VV": 1.0}},
        "hidden_states": {"layers": "uniform+top"},
        "attention_scores": {"layers": "uniform"},
        "embeddings": {},
        "qkv": {},
    }
    recipe = {**raw_recipe, "teacher": decoder}
    recipe["stages"] = [
        {
            "objectives": objectives,
            "max_steps": 20,
            "batch_size": 4,
            "optimizer": {"learning_rate": 3e-3},
        }
    ]
    run = distill(recipe, tmp_path / "run")
    report = json.loads((run.folder / "report" / "report.json").read_text(encoding="utf-8"))
    losses = [report["held_out"][name] for name in objectives]
    assert sum(loss["after"] for loss in losses) < sum(loss["before"] for loss in losses)
    assert all(loss["after"] < 1.2 * loss["before"] for loss in losses)
    student = AutoModelForCausalLM.from_pretrained(run.student)
    tokenizer = AutoTokenizer.from_pretrained(run.student)
    generated = student.generate(**tokenizer("the old", return_tensors="pt"), max_new_tokens=5)
    assert generated.shape[1] > 3
    assert report["held_out_text"]["teacher_bits_per_byte"] > 0


def test_a_decoder_cannot_teach_an_encoder(raw_recipe, decoder, tmp_path):
    recipe = {**raw_recipe, "teacher": decoder}
    recipe["student"]["model_type"] = "bert"
    with pytest.raises(RecipeError, match="is an encoder, but the teacher is a decoder"):
        distill(recipe, tmp_path / "run")


def test_options_that_change_along_the_way(raw_recipe, tmp_path):
    """A weight of next to nothing leaves the rest as if it had never been there."""
    gone = {"start": 0.0, "end": 1e-9}
    students = []
    for name, objectives in (
        ("alone", {"labels": {}}),
        ("with", {"labels": {}, "relations": {"weight": gone}}),
        ("ramp", {"labels": {}, "relations": {"weight": {"start": 1.0, "end": 0.0}}}),
    ):
        stage = {"objectives": objectives, "max_steps": 6, "batch_size": 4}
        run = distill({**raw_recipe, "stages": [stage]}, tmp_path / name)
        students.append(load_file(run.student / "model.safetensors"))
    plain, with_zero, ramp = students
    names = plain.keys()
    for name in names:
        torch.testing.assert_close(plain[name], with_zero[name], rtol=1e-4, atol=1e-6)
    assert any(not torch.allclose(plain[name], ramp[name], atol=1e-4) for name in names)


def test_temperatures_may_follow_a_ramp(raw_recipe, tmp_path):
    logits = {"temperature": {"start": 4.0, "end": 1.0, "form": "cosine"}}
    raw_recipe["stages"] = [{"objectives": {"logits": logits}, "max_steps": 6, "batch_size": 4}]
    report = distill(raw_recipe, tmp_path / "run").report
    assert report["held_out"]["logits"]["after"] < report["held_out"]["logits"]["before"]


@pytest.fixture
def headless(teacher_folder, tmp_path, tokenizer) -> str:
    folder = tmp_path / "headless"
    AutoModel.from_pretrained(teacher_folder, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_missing_head_says_how_to_train_one(raw_recipe, headless, tmp_path):
    recipe = {**raw_recipe, "teacher": headless}
    recipe["stages"] = [{"preset": "logits", "max_steps": 2, "batch_size": 4}]
    with pytest.raises(RecipeError, match="no trained vocabulary head.*labels.*minilm_head"):
        distill(recipe, tmp_path / "run")


def test_a_head_is_trained_with_the_body_frozen(raw_recipe, headless, tmp_path):
    """And then it can teach what it could not before."""
    student = {
        "num_hidden_layers": 3,
        "hidden_size": 24,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    student["init_from_teacher"] = {"layers": "last", "width": "cut"}
    stage = {"objectives": {"labels": {}}, "max_steps": 6, "batch_size": 4, "trainable": "head"}
    recipe = {**raw_recipe, "teacher": headless, "student": student, "stages": [stage]}
    run = distill(recipe, tmp_path / "head")
    before = AutoModel.from_pretrained(headless, add_pooling_layer=False).state_dict()
    after = AutoModelForMaskedLM.from_pretrained(run.student)
    for name, tensor in after.bert.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    taught = {**raw_recipe, "teacher": str(run.student)}
    taught["stages"] = [{"preset": "logits", "max_steps": 4, "batch_size": 4}]
    assert distill(taught, tmp_path / "taught").report["held_out"]["logits"]["after"] > 0


def test_tables_that_differ_by_padding(raw_recipe, tokenizer, tmp_path):
    folder = tmp_path / "padded"
    make_model(vocabulary=len(tokenizer) + 24).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    recipe = {**raw_recipe, "teacher": str(folder)}
    recipe["student"]["vocab_size"] = len(tokenizer)
    recipe["stages"] = [{"preset": "logits", "max_steps": 3, "batch_size": 4}]
    report = distill(recipe, tmp_path / "run").report
    assert 0 < report["held_out_text"]["teacher_mass_on_no_piece"] < 1
    weights = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert len(weights["bert.embeddings.word_embeddings.weight"]) == len(tokenizer)


def test_vocabularies_that_differ_for_real(raw_recipe, tokenizer, tmp_path):
    other = tmp_path / "other"
    smaller = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    smaller.add_tokens(["newword"])
    PreTrainedTokenizerFast(tokenizer_object=smaller, **SPECIAL).save_pretrained(other)
    raw_recipe["student"]["tokenizer"] = str(other)
    with pytest.raises(RecipeError, match="tokenize the text differently.*alignment: match"):
        distill(raw_recipe, tmp_path / "run")


def test_learned_maps_begin_fitted_or_random(raw_recipe, tmp_path):
    raw_recipe["stages"] = [
        {"objectives": {"hidden_states": {"layers": "uniform"}}, "max_steps": 2}
    ]
    first = {}
    for kind in ("fitted", "random"):
        raw_recipe["stages"][0]["projection_init"] = kind
        run = distill(raw_recipe, tmp_path / kind)
        log = (run.folder / "log.jsonl").read_text(encoding="utf-8")
        records = [json.loads(line) for line in log.splitlines()]
        first[kind] = next(r["held_out"]["hidden_states"] for r in records if "held_out" in r)
    assert first["fitted"] < 0.8 * first["random"]


def test_two_objectives_of_a_kind_have_their_own_maps(raw_recipe, tmp_path):
    maps = {"layers": "uniform-consecutive"}
    raw_recipe["stages"][0]["objectives"] = {
        "hidden_states.joined": {"kind": "hidden_states", **maps, "combine": "concatenate"},
        "keys": {"kind": "hidden_states", **maps, "combine": "mean"},
        "a": {"kind": "qkv", "heads": 2},
        "b": {"kind": "qkv", "heads": 4, "teacher_layer": 1},
    }
    setup = prepare(raw_recipe)
    accelerator = build_accelerator(setup.recipe.training, tmp_path)
    learner = build_learner(setup, build_models(setup, accelerator)[0], 0)
    sizes = [sorted({w.shape for w in maps.parameters()}) for maps in learner.projections]
    assert sizes == [[(1, 24, 16), (1, 48, 16)], [(1, 24, 16)], [(2, 12, 8)], [(4, 6, 4)]]
    distill(raw_recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("family", "objectives", "message"),
    [
        ("bert", {"relations": {}}, "is head, but relations needs no predictions"),
        (
            "gpt2",
            {"labels": {}},
            "is head, but the student's is its embedding table and nothing else; train all",
        ),
    ],
)
def test_a_head_that_would_learn_nothing(raw_recipe, tmp_path, family, objectives, message):
    if family == "gpt2":
        tokens = {"eos_token": "[SEP]", "bos_token": "[CLS]"}
        tokenizer = AutoTokenizer.from_pretrained(raw_recipe["teacher"], **tokens)
        tokenizer.save_pretrained(tmp_path / "teacher")
        make_model("gpt2", vocabulary=len(tokenizer)).save_pretrained(tmp_path / "teacher")
        raw_recipe["teacher"] = str(tmp_path / "teacher")
    raw_recipe["stages"][0] |= {"objectives": objectives, "trainable": "head"}
    with pytest.raises(RecipeError, match=f"stages.0.trainable: {message}"):
        distill(raw_recipe, tmp_path / "run")


def test_low_rank_layers_that_no_objective_depends_on(raw_recipe, tmp_path):
    raw_recipe["student"] |= {"low_rank": {"rank": 2}, "init_from_teacher": {}}
    part = {"objectives": {"relations": {"student_layer": 0}}, "trainable": "low_rank"}
    raw_recipe["stages"][0] |= part
    with pytest.raises(TrainingError, match=r"no objective .* depends on what is trained in it"):
        distill(raw_recipe, tmp_path / "run")


def test_heads_that_are_not_hidden_by_heads_are_kept(raw_recipe, tmp_path, decoder_tokenizer):
    config = make_model("qwen3", vocabulary=len(decoder_tokenizer)).config
    config.head_dim = 16
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "teacher")
    decoder_tokenizer.save_pretrained(tmp_path / "teacher")
    raw_recipe["teacher"] = str(tmp_path / "teacher")
    raw_recipe["student"] = {"num_hidden_layers": 2, "init_from_teacher": {"layers": "uniform"}}
    student = AutoModel.from_pretrained(distill(raw_recipe, tmp_path / "run").student)
    assert student.config.head_dim == 16


def test_windows_that_are_compared_with_the_whole_text_are_warned_of(raw_recipe, tmp_path):
    make_model("modernbert").save_pretrained(tmp_path / "teacher")
    AutoTokenizer.from_pretrained(raw_recipe["teacher"]).save_pretrained(tmp_path / "teacher")
    raw_recipe["teacher"] = str(tmp_path / "teacher")
    (warning,) = prepare(raw_recipe).warnings
    assert "relations: the student's layer 1 sees a window of the text alone" in warning
    raw_recipe["stages"][0]["objectives"] = {"relations": {"student_layer": 0}}
    assert prepare(raw_recipe).warnings == []


def test_positions_that_are_counted_from_other_padding(raw_recipe, vocabulary, tmp_path):
    config = make_model("roberta").config
    config.pad_token_id = 1
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(raw_recipe["teacher"])
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(1)
    tokenizer.save_pretrained(tmp_path / "teacher")
    raw_recipe["teacher"] = str(tmp_path / "teacher")
    raw_recipe["student"] |= {
        "tokenizer": vocabulary,
        "embedding_init": "mean",
        "init_from_teacher": {},
    }
    raw_recipe["stages"][0] = {"objectives": {"labels": {}}, "max_steps": 1}
    with pytest.raises(RecipeError, match="padding token at number 0 and the teacher's at 1"):
        prepare(raw_recipe)
    raw_recipe["student"] |= {"init_from_teacher": None}
    raw_recipe["stages"].insert(0, {"mixed": {}, "max_steps": 1})
    with pytest.raises(RecipeError, match="padding token at number 0 and the teacher's at 1"):
        prepare(raw_recipe)
