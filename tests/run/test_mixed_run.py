"""Mixed-vocabulary training: the model against plain code, and whole runs of both stages."""

import json
from itertools import combinations

import pytest
import torch
from conftest import (
    SMALL_VOCABULARY,
    make_model,
    make_text,
    make_tokenizer,
    stop_at,
    stopped_and_whole,
    train,
)
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, AutoTokenizer

from limbeck.activations import Activations
from limbeck.batch import Batch, Tokens
from limbeck.errors import RecipeError
from limbeck.models.families.lookup import architecture_of, architecture_of_type
from limbeck.models.load import load_body
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.costs import students_sentence
from limbeck.run.distill import distill
from limbeck.run.learner import build_learner
from limbeck.run.models import build_models
from limbeck.run.probe import probe
from limbeck.student.embedding_init import mean_of_teacher_tokens
from limbeck.student.mixed_vocabulary import MixedVocabulary, reader_of_student_tokens
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.training.learner import MixedLearner


@pytest.fixture
def raw(raw_recipe, vocabulary):
    recipe = {**raw_recipe, "student": {**raw_recipe["student"], "tokenizer": vocabulary}}
    recipe["stages"] = [
        {"mixed": {"student_fraction": 0.5}, "max_steps": 6, "batch_size": 4},
        {"objectives": {"labels": {}}, "max_steps": 6, "batch_size": 4},
    ]
    return recipe


@pytest.fixture(params=["bert", "roberta", "electra"])
def pair(request):
    torch.manual_seed(0)
    architecture = architecture_of_type(request.param)
    teacher = make_model(request.param, vocabulary=50)
    student = make_model("bert", vocabulary=30, hidden=16)
    return MixedVocabulary(teacher, student, architecture, seed=0), student


def mixed_tokens(first, seed=0):
    chance = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, first + 30, (3, 9), generator=chance)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 6:] = False
    predicted = (torch.rand(3, 9, generator=chance) < 0.5) & mask
    return Tokens(ids, mask, ids.roll(1, 1), predicted)


def test_both_kinds_are_read_and_predicted_as_written_plainly(pair):
    mixed, student = pair
    first = mixed.embedding.student_from
    tokens = mixed_tokens(first)
    batch = Batch(tokens, tokens)
    learner = MixedLearner(student, mixed)
    total = learner(batch, Activations())["labels"]

    table = mixed.embedding.teacher.weight
    mapped = student.get_input_embeddings().weight @ mixed.embedding.map.weight.mT
    rows = torch.cat([table, mapped + mixed.embedding.map.bias])
    plain = mixed.plain()
    assert torch.equal(plain.get_input_embeddings().weight, rows)
    logits = plain(input_ids=tokens.input_ids, attention_mask=tokens.mask).logits
    expected = torch.zeros(())
    for text in range(3):
        for place in range(9):
            if tokens.predicted[text, place]:
                label = tokens.labels[text, place]
                of_student = label >= first
                own = logits[text, place, first:] if of_student else logits[text, place, :first]
                expected = expected + cross_entropy(own, label - first * of_student)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-4)


def test_student_tokens_enter_with_the_deviation_of_the_teachers(pair):
    mixed, _ = pair
    table = mixed.embedding.teacher.weight
    rows = mixed.embedding.map(mixed.embedding.student.weight)
    size = [(r - r.mean(0)).norm() / len(r) ** 0.5 for r in (rows, table)]
    torch.testing.assert_close(*size, rtol=0.05, atol=0.0)
    far = (rows.mean(0) - table.mean(0)).norm()
    assert far < 0.5 * size[1]


def test_teacher_and_table_learn_and_the_rest_of_the_student_does_not(pair):
    mixed, student = pair
    tokens = mixed_tokens(mixed.embedding.student_from)
    learner = MixedLearner(student, mixed)
    learner(Batch(tokens, tokens), Activations())["labels"].backward()
    table = student.get_input_embeddings().weight
    assert table.grad is not None and table.grad.any()
    assert not any(p.requires_grad for p in student.parameters() if p is not table)
    learned = [*mixed.embedding.parameters(), mixed.student_bias]
    assert all(p.grad is not None and p.grad.any() for p in learned)


def test_only_the_students_rows_in_its_own_numbers(pair):
    mixed, student = pair
    both = mixed.plain()
    architecture = architecture_of(both.config)
    first = mixed.embedding.student_from
    plain = reader_of_student_tokens(both, architecture, student_from=first)
    tokens = mixed_tokens(first)
    ids = tokens.input_ids % 30
    with torch.no_grad():
        alone = plain(input_ids=ids, attention_mask=tokens.mask).logits
        among = both(input_ids=ids + first, attention_mask=tokens.mask).logits[..., first:]
    torch.testing.assert_close(alone[tokens.mask], among[tokens.mask], rtol=1e-4, atol=1e-4)
    assert plain.config.vocab_size == 30
    with torch.no_grad():
        rows = mixed.embedding.map(student.get_input_embeddings().weight)
    assert torch.equal(plain.get_input_embeddings().weight, rows)
    assert mixed.embedding.student_from == mixed.body.config.vocab_size


def test_a_whole_run_leaves_a_student_with_its_own_tokens(raw, tmp_path, vocabulary):
    run = distill(raw, tmp_path / "run")
    student = AutoModelForMaskedLM.from_pretrained(run.student)
    tokenizer = AutoTokenizer.from_pretrained(run.student)
    assert len(tokenizer) == SMALL_VOCABULARY == student.config.vocab_size
    assert student.config.pad_token_id == tokenizer.pad_token_id
    both = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "mixed")
    first = json.loads((tmp_path / "run" / "mixed" / "mixed.json").read_text())["student_from"]
    assert both.config.vocab_size == first + SMALL_VOCABULARY
    text = run.report["held_out_text"]
    assert text["bits_per_byte"] > 0 and "top_agreement" not in text
    assert set(run.report["held_out"]) == {"mixed: labels", "labels: labels"}


def test_what_the_first_stage_taught_is_what_the_second_begins_with(raw, tmp_path):
    distill(raw, tmp_path / "run")
    states = tmp_path / "run" / "state"
    raw["stages"][1]["max_steps"] = 1
    raw["stages"][1]["optimizer"] = {"learning_rate": 1e-12}
    run = distill(raw, tmp_path / "short")
    table = "bert.embeddings.word_embeddings.weight"
    mine = load_file(run.student / "model.safetensors")[table]
    both = load_file(tmp_path / "short" / "mixed" / "model.safetensors")[table]
    # Rows of the student at the teacher's width are an affine map of the student's own.
    rows = torch.cat([mine, torch.ones(len(mine), 1)], dim=1)
    theirs = both[-len(mine) :]
    solved = torch.linalg.lstsq(rows, theirs).solution
    torch.testing.assert_close(rows @ solved, theirs, rtol=1e-3, atol=1e-4)
    assert states.is_dir()


def test_layers_may_be_copied_from_the_teacher_of_both(raw, tmp_path):
    raw["student"]["init_from_teacher"] = {"layers": "uniform", "width": "svd"}
    raw["stages"][1]["max_steps"] = 1
    raw["stages"][1]["optimizer"] = {"learning_rate": 1e-12}
    run = distill(raw, tmp_path / "run")
    student = AutoModelForMaskedLM.from_pretrained(run.student)
    assert student.config.vocab_size == SMALL_VOCABULARY


@pytest.mark.parametrize("stopped_at", [None, 8])
def test_the_second_stage_may_learn_from_the_teacher_of_the_first(
    raw, tmp_path, stopped_at, monkeypatch
):
    """Every objective: that teacher reads the student's own tokens."""
    raw["training"] = {**raw["training"], "save_steps": 1}
    raw["stages"][1]["name"] = "student"
    raw["stages"][1]["objectives"] = {
        "labels": {},
        "logits": {},
        "hidden_states": {},
        "relations": {},
    }
    if stopped_at:
        stop_at(stopped_at, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            distill(raw, tmp_path / "run")
        monkeypatch.undo()
    report = distill(raw, tmp_path / "run").report
    after = {name: facts["after"] for name, facts in report["held_out"].items()}
    assert set(after) == {"mixed: labels"} | {
        f"student: {name}" for name in ("labels", "logits", "hidden_states", "relations")
    }
    assert all(value >= 0 for value in after.values())


@pytest.mark.parametrize("stopped_at", [4, 9])
def test_a_stopped_run_resumes_to_the_same_student(raw, tmp_path, monkeypatch, stopped_at):
    raw["training"] = {**raw["training"], "save_steps": 2}
    mine, theirs = stopped_and_whole(raw, tmp_path, monkeypatch, stopped_at)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_sentence_has_as_many_tokens_as_its_words_need(raw):
    setup = prepare(raw)
    text = "".join(make_text(40))
    mine, theirs = (
        len(tokenizer(text, add_special_tokens=False)["input_ids"])
        for tokenizer in (setup.models.student.tokenizer, setup.models.teacher.tokenizer)
    )
    assert students_sentence(setup) == pytest.approx(64 * mine / theirs, rel=0.1)
    raw["student"].pop("tokenizer")
    raw["stages"].pop(0)
    assert students_sentence(prepare(raw)) == 64


def test_plan_probes_a_mixed_stage_and_what_follows_it(raw):
    raw["stages"][1]["objectives"] = {"labels": {}, "logits": {}, "relations": {}}
    setup = prepare(raw)
    assert probe(setup, 0).seconds_per_step > 0
    assert probe(setup, 1).seconds_per_step > 0  # from what the first stage would leave


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(teacher=None), "teacher: is missing; a mixed stage trains a copy"),
        (lambda r: r["student"].pop("tokenizer"), "student.tokenizer: is the teacher's own"),
        (lambda r: r["stages"].reverse(), "stages.1.mixed: can only be the first stage"),
        (lambda r: r["stages"].pop(), "a mixed stage trains only the student's table"),
        (
            lambda r: r["stages"][0].update(mixed={"student_fraction": 1.0}),
            "must stay above 0 and below 1",
        ),
        (lambda r: r["stages"][0].update(preset="minilmv2"), "learns from labels alone"),
        (
            lambda r: r["stages"].pop(0) and r["student"].update(init_from_teacher={}),
            "begin with a `mixed`",
        ),
        (lambda r: r["data"].update(packing=False), "data.packing: must be true"),
    ],
)
def test_problems(raw, tmp_path, change, message):
    change(raw)
    if raw["teacher"] is None:
        raw["student"]["model_type"] = "bert"
    with pytest.raises(RecipeError, match=message):
        distill(raw, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def cased(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cased")
    blank = blank_tokenizer("wordpiece", lowercase=False)
    text = [text for line in make_text(300) for text in (line, line.title())]
    learn_tokenizer(text, blank, vocab_size=150).save_pretrained(folder)
    return str(folder)


def test_letters_that_one_side_distinguishes_are_refused_or_their_cost_is_said(
    raw, cased, tmp_path
):
    raw["student"]["tokenizer"] = cased
    with pytest.raises(RecipeError, match=r"student\.tokenizer: distinguishes capital letters and"):
        distill(raw, tmp_path / "run")
    raw["student"]["allow_normalizer_mismatch"] = True
    with_capitals = tmp_path / "capitals.txt"
    with_capitals.write_text("\n".join(text.title() for text in make_text(40)), encoding="utf-8")
    raw["data"]["text"] = str(with_capitals)
    assert "of 100.0% of the words" in prepare(raw).warnings[-1]


def test_a_vocabulary_without_special_tokens_is_refused(raw, vocabulary, tmp_path):
    bare = AutoTokenizer.from_pretrained(vocabulary)
    bare.mask_token = None
    bare.save_pretrained(tmp_path / "bare")
    raw["student"]["tokenizer"] = str(tmp_path / "bare")
    refused = r"stages\.0: hides tokens, .* of the student has no mask"
    with pytest.raises(RecipeError, match=refused):
        distill(raw, tmp_path / "run")


def test_the_control_without_a_mixed_stage_needs_no_more_than_labels(raw, tmp_path):
    raw["stages"] = raw["stages"][1:]
    run = distill(raw, tmp_path / "run")
    assert len(AutoTokenizer.from_pretrained(run.student)) == SMALL_VOCABULARY


def test_the_fixture_is_another_vocabulary(vocabulary):
    assert AutoTokenizer.from_pretrained(vocabulary).get_vocab() != make_tokenizer().get_vocab()


def test_a_student_may_begin_with_means_of_the_teachers_tokens(raw, tmp_path):
    raw["stages"] = raw["stages"][1:]
    raw["stages"][0] |= {"max_steps": 1, "optimizer": {"learning_rate": 1e-12}}
    tables = []
    for kind in ("random", "mean", "containing", "weighted"):
        raw["student"]["embedding_init"] = kind
        weights = load_file(train(raw, tmp_path / kind) / "student" / "model.safetensors")
        tables.append(weights["bert.embeddings.word_embeddings.weight"])
    for one, other in combinations(tables, 2):
        assert not torch.allclose(one, other, atol=1e-3)


def test_a_mixed_stage_may_begin_with_means_too(raw):
    raw["student"]["embedding_init"] = "mean"
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, ".")
    learner = build_learner(setup, build_models(setup, accelerator)[0], 0)
    found = learner.mixed.plain().get_input_embeddings().weight.detach()
    first = learner.mixed.embedding.student_from
    tokens = setup.models.teacher.tokenizer, setup.models.student.tokenizer
    rows = mean_of_teacher_tokens(found[:first], *tokens)
    entering = found[first : first + len(rows)]
    assert (
        entering.shape[1] > setup.models.student.shape.hidden_size
    )  # so a part of every row is lost
    centred = rows - rows.mean(0)
    lost = (entering - rows).square().sum() / centred.square().sum()
    size = torch.linalg.svdvals(centred)
    beyond = size[setup.models.student.shape.hidden_size :].square().sum() / size.square().sum()
    torch.testing.assert_close(lost, beyond, rtol=1e-3, atol=1e-6)


def test_layers_may_be_copied_with_means_for_the_new_tokens(raw):
    wide = prepare(raw).models.teacher.shape
    raw["stages"] = raw["stages"][1:]
    raw["student"] |= {
        "embedding_init": "mean",
        "init_from_teacher": {"layers": "first", "width": "cut"},
    }
    raw["student"] |= {
        "hidden_size": wide.hidden_size,
        "num_attention_heads": wide.num_attention_heads,
    }
    raw["student"] |= {"intermediate_size": wide.intermediate_size}
    setup = prepare(raw)
    student, teacher = build_models(setup, build_accelerator(setup.recipe.training, "."))
    assert teacher is None
    body = load_body(raw["teacher"])
    tokens = setup.models.teacher.tokenizer, setup.models.student.tokenizer
    rows = mean_of_teacher_tokens(body.get_input_embeddings().weight, *tokens)
    torch.testing.assert_close(student.get_input_embeddings().weight, rows)
    mine, theirs = (model.encoder.layer[1].state_dict() for model in (student.bert, body))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not student.cls.predictions.bias.any()


def test_means_where_they_would_do_nothing(raw, tmp_path):
    raw["student"]["embedding_init"] = "mean"
    raw["student"].pop("tokenizer")
    raw["stages"] = raw["stages"][1:]
    with pytest.raises(RecipeError, match=r"student\.embedding_init: is mean, but the tokens are"):
        distill(raw, tmp_path / "run")


def test_layers_computed_again_give_the_same_student(raw, tmp_path):
    whole = train(raw, tmp_path / "whole")
    raw["training"] |= {"gradient_checkpointing": True}
    again = train(raw, tmp_path / "again")
    for part in ("student", "mixed"):
        mine, theirs = (load_file(f / part / "model.safetensors") for f in (whole, again))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
