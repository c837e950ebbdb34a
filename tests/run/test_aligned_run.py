"""Whole runs with two vocabularies that are aligned: every objective, both kinds."""

import json

import pytest
import torch
from conftest import (
    SMALL_VOCABULARY,
    make_model,
    make_text,
    make_tokenizer,
    stopped_and_whole,
    train,
)
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from limbeck.errors import RecipeError
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_model
from limbeck.models.shapes import shape_of
from limbeck.objectives import OBJECTIVES
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import stage_batches
from limbeck.run.distill import distill
from limbeck.run.learner import build_learner
from limbeck.run.models import build_models
from limbeck.run.probe import probe
from limbeck.study.arms import prepare_study
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer


def backwards(teacher_folder, folder):
    """The teacher's own tokenizer, its tokens numbered backwards."""
    own = AutoTokenizer.from_pretrained(teacher_folder)
    raw = json.loads(own.backend_tokenizer.to_str())
    last = len(own) - 1
    raw["model"]["vocab"] = {token: last - n for token, n in raw["model"]["vocab"].items()}
    for added in raw["added_tokens"]:
        added["id"] = last - added["id"]
    for special in raw["post_processor"].get("special_tokens", {}).values():
        special["ids"] = [last - n for n in special["ids"]]
    for mark in ("sep", "cls"):
        if mark in raw["post_processor"]:
            raw["post_processor"][mark][1] = last - raw["post_processor"][mark][1]
    backend = type(own.backend_tokenizer).from_str(json.dumps(raw))
    PreTrainedTokenizerFast(tokenizer_object=backend, **own.special_tokens_map).save_pretrained(
        folder
    )
    return str(folder)


@pytest.fixture(scope="module")
def renumbered(tmp_path_factory, teacher_folder):
    return backwards(teacher_folder, tmp_path_factory.mktemp("renumbered"))


@pytest.fixture
def raw(raw_recipe, vocabulary):
    recipe = {**raw_recipe, "student": {**raw_recipe["student"], "tokenizer": vocabulary}}
    recipe["stages"] = [
        {"alignment": "match", "objectives": {"labels": {}}, "max_steps": 4, "batch_size": 4}
    ]
    return recipe


@pytest.mark.parametrize(
    "alignment",
    [
        "match",
        {"kind": "match", "teacher_input": "masked"},
        "reduce",
        {"kind": "reduce", "pool": "mean"},
        {"kind": "reduce", "columns": "mapped"},
        {"kind": "reduce", "columns": "mapped", "logit_pooling": "log_sum_exp"},
    ],
    ids=str,
)
def test_every_objective_in_every_alignment(raw, tmp_path, alignment):
    others = {"span_likelihood", "class_logits", "class_labels", "margin_mse"}
    others |= {"sentence_vectors", "sentence_similarities"}
    names = OBJECTIVES.keys() - others  # of decoders alone, and of rows
    raw["stages"][0] |= {"alignment": alignment, "objectives": {name: {} for name in names}}
    run = distill(raw, tmp_path / "run")
    held_out = run.report["held_out"]
    assert set(held_out) == names
    assert all(facts["after"] >= 0 for facts in held_out.values())
    student = AutoModelForMaskedLM.from_pretrained(run.student)
    assert student.config.vocab_size == SMALL_VOCABULARY
    assert probe(prepare(raw), 0).seconds_per_step > 0
    (counts,) = run.report["cuts"].values()
    assert counts["one_to_one"] > 0 and counts["grouped"] > 0 and counts["alone"] == 0
    assert counts["words"] > counts["one_to_one"] / 2


def test_a_batch_may_link_nothing(raw, tmp_path):
    """As those of one text do, and the share of one process among several."""
    names = ("labels", "logits", "hidden_states", "relations", "attention_scores", "embeddings")
    raw["stages"][0] |= {"objectives": {name: {} for name in names}, "batch_size": 1}
    batches = stage_batches(prepare(raw), 0)
    assert not all(batches.batch(step).links.groups.mask.any() for step in range(4))
    assert (train(raw, tmp_path / "run") / "student" / "config.json").exists()


def test_a_stage_that_predicts_nothing_hides_nothing(raw):
    raw["stages"][0] |= {"alignment": "match", "objectives": {"relations": {}}}
    student = stage_batches(prepare(raw), 0).batch(0).student
    assert torch.equal(student.input_ids, student.labels) and not student.predicted.any()


def test_renumbered_tokens_are_compared_as_if_they_were_the_same(raw, renumbered, teacher_folder):
    """With a student that is the teacher but for the numbers, everything matches: no loss."""
    shape = shape_of(make_model("bert").config, ARCHITECTURES["bert"])
    raw["student"] = {
        "num_hidden_layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.num_attention_heads,
        "intermediate_size": shape.intermediate_size,
        "tokenizer": renumbered,
        "embedding_init": "mean",
        "init_from_teacher": {"layers": "first"},
    }
    objectives = {"hidden_states": {}, "relations": {}, "logits": {}}
    alignment = {"kind": "match", "teacher_input": "masked"}
    masking = {"mlm_probability": 0.3, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}
    raw["stages"][0] |= {"alignment": alignment, "objectives": objectives, "masking": masking}
    raw["training"] = {**raw["training"], "precision": "float32"}
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, ".")
    student, teacher = build_models(setup, accelerator)
    batch = stage_batches(setup, 0).batch(0)
    frames = 2 * len(batch.student.mask)
    words = batch.student.labels != setup.models.student.tokenizer.sep_token_id
    text = (batch.student.mask & words).sum() - len(batch.student.mask)
    assert batch.links.groups.mask.sum() == text and text > frames
    learner = build_learner(setup, student, 0)
    learner.eval()
    totals = learner(batch, teacher.signals(batch, setup.stages[0].teacher_needs()))
    for name, total in totals.items():
        assert float(total.detach()) == pytest.approx(0.0, abs=1e-3), name


@pytest.fixture(scope="module")
def two_of_bytes(tmp_path_factory):
    """A decoder with 300 byte-level tokens, and a vocabulary of 275."""
    folders = []
    for size in (300, 275):
        folders.append(tmp_path_factory.mktemp(f"bytes{size}"))
        blank = blank_tokenizer("bytes", lowercase=False)
        learn_tokenizer(make_text(300), blank, vocab_size=size).save_pretrained(folders[-1])
    make_model("llama", vocabulary=300).save_pretrained(folders[0])
    return [str(folder) for folder in folders]


@pytest.fixture
def decoders(raw, two_of_bytes):
    raw["teacher"] = two_of_bytes[0]
    raw["student"] |= {"tokenizer": two_of_bytes[1], "embedding_init": "mean"}
    return raw


@pytest.mark.parametrize("kind", ["mean", "containing", "weighted"])
@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_a_head_learns_the_new_tokens_as_the_table_does(
    family, kind, raw, teacher_folder, two_of_bytes, tmp_path
):
    """A teacher with other numbers for its tokens says what it said, by its own head and biases."""
    causal = ARCHITECTURES[family].causal
    tokens = two_of_bytes[0] if causal else teacher_folder
    AutoTokenizer.from_pretrained(tokens).save_pretrained(tmp_path / "teacher")
    count = len(AutoTokenizer.from_pretrained(tokens))
    model = make_model(family, vocabulary=count)
    if family == "bert":
        torch.nn.init.normal_(model.cls.predictions.bias)
    model.save_pretrained(tmp_path / "teacher")
    teacher = load_model(str(tmp_path / "teacher"), architecture=ARCHITECTURES[family])
    tied = teacher.get_input_embeddings().weight is teacher.get_output_embeddings().weight
    assert tied == (family != "llama")
    raw["teacher"] = str(tmp_path / "teacher")
    raw["student"] = {
        "tokenizer": backwards(tokens, tmp_path / "tokens"),
        "embedding_init": kind,
        "init_from_teacher": {"layers": "first"},
    }
    alignment = "boundaries" if causal else "match"
    raw["stages"][0] |= {"alignment": alignment, "objectives": {"hidden_states": {}}}
    setup = prepare(raw)
    student, _ = build_models(setup, build_accelerator(setup.recipe.training, "."))
    ids = torch.arange(count)[None, :60]
    with torch.no_grad():
        expected, found = teacher(ids).logits, student(count - 1 - ids).logits
    torch.testing.assert_close(found.flip(-1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["mean", "containing", "weighted"])
def test_bytes_that_both_have_begin_as_the_teachers(kind, raw, two_of_bytes):
    raw["teacher"] = two_of_bytes[0]
    raw["student"] = {
        "tokenizer": two_of_bytes[1],
        "embedding_init": kind,
        "init_from_teacher": {"layers": "first"},
    }
    raw["stages"][0] |= {"alignment": "boundaries", "objectives": {"hidden_states": {}}}
    setup = prepare(raw)
    student, _ = build_models(setup, build_accelerator(setup.recipe.training, "."))
    rows = student.get_input_embeddings().weight
    theirs = load_file(f"{two_of_bytes[0]}/model.safetensors")["model.embed_tokens.weight"]
    old, new = (AutoTokenizer.from_pretrained(name).get_vocab() for name in two_of_bytes)
    shared = [name for name in ("Ġ", "Ð", "Ñ", "³") if name in old and name in new]
    assert len(shared) == 4
    for name in shared:
        torch.testing.assert_close(rows[new[name]], theirs[old[name]])


@pytest.mark.parametrize("columns", ["shared", "mapped", "all"])
def test_decoders_are_compared_where_both_have_read_as_much(decoders, tmp_path, columns):
    names = ["labels", "uld", "span_likelihood", "hidden_states", "relations"]
    names += [] if columns == "all" else ["logits"]
    decoders["stages"][0] |= {
        "alignment": {"kind": "boundaries", "columns": columns},
        "objectives": {name: {} for name in names},
    }
    run = distill(decoders, tmp_path / "run")
    assert set(run.report["held_out"]) == set(names)
    setup = prepare(decoders)
    assert probe(setup, 0).seconds_per_step > 0
    batch = stage_batches(setup, 0).batch(0)
    tokenizers = setup.models.student.tokenizer, setup.models.teacher.tokenizer
    sides = (batch.student, batch.links.student), (batch.teacher, batch.links.teacher)
    compared = 0
    for text in range(4):
        for group in range(int(batch.links.groups.mask[text].sum())):
            read = []
            for (tokens, groups), tokenizer in zip(sides, tokenizers, strict=True):
                place = int((groups[text] == group).nonzero())
                read.append(tokenizer.decode(tokens.input_ids[text, : place + 1].tolist()))
            assert read[0] == read[1]
            compared += 1
    assert compared > 20
    # Every span is predicted token by token, by both, and spells the same.
    for text in range(4):
        for group in range(int(batch.links.groups.mask[text].sum())):
            spelled = []
            for (tokens, _), next_, tokenizer in zip(
                sides, (batch.links.student_next, batch.links.teacher_next), tokenizers, strict=True
            ):
                places = next_[text] == group
                assert tokens.predicted[text][places].all()
                spelled.append(tokenizer.decode(tokens.labels[text][places].tolist()))
            assert spelled[0] == spelled[1] != ""


def test_a_stopped_run_resumes_to_the_same_student(raw, tmp_path, monkeypatch):
    raw["training"] = {**raw["training"], "save_steps": 2}
    raw["stages"][0]["objectives"] = {"labels": {}, "hidden_states": {}}
    mine, theirs = stopped_and_whole(raw, tmp_path, monkeypatch, 3)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("size", [1, 3])
def test_other_micro_batches_give_the_same_student(raw, tmp_path, trained, size):
    raw["stages"][0] |= {"alignment": "reduce", "objectives": {"labels": {}, "logits": {}}}
    raw["training"] = {**raw["training"], "precision": "float32"}
    whole = trained(raw)
    raw["stages"][0]["micro_batch_size"] = size
    split = train(raw, tmp_path / "split")
    mine, theirs = (load_file(f / "student" / "model.safetensors") for f in (whole, split))
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=1e-5)


def test_arms_may_differ_by_their_alignment_alone(raw):
    arms = {kind: {"stages.0.alignment": kind} for kind in ("match", "reduce")}
    raw["stages"][0]["objectives"] = {"labels": {}, "hidden_states": {}}
    study = {"name": "toy", "recipe": raw, "arms": arms, "control": "match"}
    _, runs = prepare_study(study)
    assert [run.arm for run in runs] == ["match", "reduce"]


def foreign(tmp_path):
    text = ["猫 日本 語学 国"] * 20
    folder = tmp_path / "foreign"
    blank = blank_tokenizer("wordpiece", lowercase=True)
    learn_tokenizer(text, blank, vocab_size=11).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r, t: r["student"].pop("tokenizer"), r"0\.alignment: is for a student with tokens"),
        (lambda r, t: r.update(teacher=None), r"0\.alignment: is for a student with tokens"),
        (lambda r, t: r["data"].update(packing=False), "data.packing: must be true where"),
        (lambda r, t: r["student"].update(tokenizer=foreign(t)), "shares no token with"),
        (
            lambda r, t: r["stages"][0].update(
                alignment={"kind": "reduce", "teacher_input": "masked"}
            ),
            r"teacher_input: is masked, but with reduce the student is compared on a view",
        ),
        (lambda r, t: r["stages"][0].update(alignment="guess"), "alignment"),
        (
            lambda r, t: r["stages"][0].update(alignment="boundaries"),
            "encoders take match or reduce",
        ),
        (
            lambda r, t: r["stages"][0].update(objectives={"span_likelihood": {}}),
            "span_likelihood: needs `align",
        ),
        (
            lambda r, t: r["stages"][0].update(
                alignment={"kind": "reduce", "logit_pooling": "log_sum_exp"}
            ),
            "logit_pooling: is for `columns: mapped`",
        ),
        (
            lambda r, t: r["stages"][0].update(alignment=None, objectives={"hidden_states": {}}),
            "`alignment: match` or `reduce`",
        ),
    ],
)
def test_problems(raw, tmp_path, change, message):
    change(raw, tmp_path)
    if raw["teacher"] is None:
        raw["student"]["model_type"] = "bert"
    with pytest.raises(RecipeError, match=message):
        distill(raw, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_shared_token_is_needed_where_probabilities_are_compared_in_order(raw, tmp_path):
    raw["student"]["tokenizer"] = foreign(tmp_path)
    raw["stages"][0] |= {
        "alignment": {"kind": "match", "columns": "all"},
        "objectives": {"uld": {}},
    }
    with pytest.raises(RecipeError) as refused:  # for letters that it does not cover
        prepare(raw)
    assert "shares no token" not in str(refused.value)


def test_the_tokenizer_of_the_test_is_another(vocabulary):
    assert AutoTokenizer.from_pretrained(vocabulary).get_vocab() != make_tokenizer().get_vocab()
