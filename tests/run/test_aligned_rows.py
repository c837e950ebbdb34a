"""Rows of a task that both models read in their own tokens, of which equal ones are compared."""

import math

import pytest
import torch
from accelerate import Accelerator
from conftest import losses, make_tokenizer, resumed_and_cached

from limbeck.batch import Batch
from limbeck.evaluation.examples import read_example
from limbeck.evaluation.tasks import Example
from limbeck.recipe.check import check, prepare
from limbeck.run.batches import stage_batches, stage_held_out
from limbeck.run.distill import distill
from limbeck.run.learner import build_learner
from limbeck.run.models import build_models
from limbeck.run.probe import probe
from limbeck.run.task_batches import place_of_each_span
from limbeck.training.step import mean_values

LIMIT = 48
HIDDEN = {"layers": {0: 1}, "measure": "mse"}


@pytest.fixture
def aligned_recipe(task_recipe, vocabulary):
    """A student with tokens of its own, which learns classes and hidden states."""

    def of(task: str, family: str = "bert") -> dict:
        raw = task_recipe(task, family)
        raw["student"] = {**raw["student"], "tokenizer": vocabulary}
        raw["data"]["max_length"] = LIMIT
        raw["stages"][0] |= {
            "alignment": "match",
            "objectives": {"class_logits": {}, "hidden_states": HIDDEN, "relations": {}},
        }
        return raw

    return of


def spans_of(row, tokenizer, limit):
    """What each token stands for, as transformers itself says it."""
    text = row.text if row.words is None else " ".join(row.words)
    read = tokenizer(
        text,
        row.text_pair if row.words is None else None,
        truncation=True,
        max_length=limit,
        return_offsets_mapping=True,
    )
    whose = read.sequence_ids()
    return read["input_ids"], [
        None if text_of is None else (text_of, *span)
        for text_of, span in zip(whose, read["offset_mapping"], strict=True)
    ]


@pytest.mark.parametrize("task", ["labels", "pairs", "tags"])
def test_linked_are_equal_tokens_of_the_same_letters(aligned_recipe, task):
    setup = prepare(aligned_recipe(task))
    mine, theirs = (side.tokenizer for side in (setup.models.student, setup.models.teacher))
    source = stage_batches(setup, 0)
    batch = source.batch(0)
    some = 0
    for number, place in enumerate(source._places(0)):
        row = source.table[place]
        ids, spans = spans_of(row, mine, LIMIT)
        there_ids, there_spans = spans_of(row, theirs, LIMIT)
        assert batch.student.rows(number, number + 1).input_ids[0, : len(ids)].tolist() == ids
        expected = {
            (n, m)
            for n, span in enumerate(spans)
            for m, other in enumerate(there_spans)
            if span is not None
            and span == other
            and mine.convert_ids_to_tokens(ids[n]) == theirs.convert_ids_to_tokens(there_ids[m])
        }
        links = batch.links.rows(number, number + 1)
        groups = links.groups.mask.sum()
        found = {
            (int((links.student[0] == g).nonzero()), int((links.teacher[0] == g).nonzero()))
            for g in range(groups)
        }
        assert found == expected
        some += len(found)
    assert some > 8 and some < int(batch.student.mask.sum()) - 2 * len(batch.student.mask)


def test_several_tokens_of_one_letter_are_linked_with_none():
    """A tokenizer of bytes has several tokens for a letter, and all of them its place."""
    read = read_example(Example(text="a 🙂 b"), make_tokenizer(kind="byte_bpe"), 24)
    places = place_of_each_span(read)
    assert len(read.ids) > len(places) + 2
    assert {"a 🙂 b"[start:end] for _, start, end in places} == {"a", "b"}


def test_the_losses_are_those_of_a_plain_loop(aligned_recipe):
    """Hidden states at linked tokens alone; classes as without an alignment."""
    raw = aligned_recipe("pairs")
    raw["student"] |= {"hidden_size": 24, "num_attention_heads": 4}
    accelerator, setup = Accelerator(cpu=True), prepare(raw)
    assert setup.models.student.shape.hidden_size == setup.models.teacher.shape.hidden_size
    student, teacher = build_models(setup, accelerator)
    learner = build_learner(setup, student, 0)
    held_out = stage_held_out(setup, 0)
    found = mean_values(learner, teacher, setup.stages[0], held_out, accelerator)
    total, count = 0.0, 0
    for batch in held_out:
        states = []
        for model, tokens in ((student, batch.student), (teacher.model, batch.teacher)):
            with torch.no_grad():
                states.append(
                    model.eval()
                    .base_model(
                        input_ids=tokens.input_ids,
                        attention_mask=tokens.mask.long(),
                        token_type_ids=tokens.token_type_ids,
                        output_hidden_states=True,
                    )
                    .hidden_states
                )
        for row in range(len(batch.student.mask)):
            for n, group in enumerate(batch.links.student[row].tolist()):
                if group >= 0:
                    m = batch.links.teacher[row].tolist().index(group)
                    difference = states[0][1][row, n] - states[1][2][row, m]
                    total += difference.square().mean().item()
                    count += 1
    assert found["hidden_states"] == pytest.approx(total / count, rel=1e-5)
    raw["stages"][0]["objectives"] = {"class_logits": {}}
    del raw["stages"][0]["alignment"]
    alone = prepare(raw)
    learner = build_learner(alone, student, 0)
    batches = [Batch(batch.student, batch.teacher) for batch in held_out]
    plain = mean_values(learner, teacher, alone.stages[0], batches, accelerator)
    assert found["class_logits"] == pytest.approx(plain["class_logits"], rel=1e-6)


@pytest.mark.parametrize("task", ["labels", "tags"])
def test_a_run_resumes_and_learns_the_same_from_a_cache(
    task, aligned_recipe, tmp_path, monkeypatch
):
    raw = aligned_recipe(task)
    raw["training"] = {**raw["training"], "save_steps": 1}
    run = resumed_and_cached(raw, tmp_path, monkeypatch, rounding=1e-6)
    assert run.report["task_answers"]["agreement"] is not None
    assert probe(prepare(raw), 0).seconds_per_step > 0


def test_the_second_stage_of_tinybert(aligned_recipe, tmp_path):
    raw = aligned_recipe("pairs", "distilbert")
    raw["stages"][0]["objectives"] = {}
    raw["stages"][0]["preset"] = "tinybert-task"
    raw["student"] = {
        "tokenizer": raw["student"]["tokenizer"],
        "num_hidden_layers": 2,
        "init_from_teacher": {"layers": [0, 2]},
        "embedding_init": "mean",
    }
    distill(raw, tmp_path / "run")
    for record in losses(tmp_path / "run"):
        for values in filter(None, record[3:]):
            assert all(0 <= value < math.inf for value in values.values()) and len(values) == 4


@pytest.mark.parametrize(
    ("change", "named", "said"),
    [
        ({"alignment": "reduce"}, "stages.0.alignment", "must be match, without options"),
        ({"alignment": {"teacher_input": "masked"}}, "stages.0.alignment", "must be match"),
        ({"alignment": None}, "stages.0.objectives", "alignment"),
    ],
)
def test_what_cannot_be_compared_is_said(aligned_recipe, change, named, said):
    raw = aligned_recipe("labels")
    raw["stages"][0] |= change
    _, problems = check(raw)
    assert any(place == named and said in message for place, message in problems), problems


def test_decoders_have_no_such_alignment(aligned_recipe):
    raw = aligned_recipe("labels", "gpt2")
    raw["student"]["tokenizer"] = None
    _, problems = check(raw)
    assert any(place == "stages.0.alignment" for place, _ in problems)
