"""Small files: what can be learned from is, and what cannot is found before anything runs."""

import json
import re

import pytest
from conftest import make_text

from limbeck.recipe.check import check, prepare
from limbeck.run.batches import stage_batches, stage_held_out
from limbeck.run.distill import distill
from limbeck.run.prompt_batches import held_out_prompts, prompt_batches

LONG = " ".join(make_text(400))


@pytest.fixture
def of_lines(raw_recipe, tmp_path):
    """A recipe of texts with those lines; the share held out takes one of a hundred."""

    def made(*texts, **data):
        for number, lines in enumerate(texts):
            (tmp_path / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
        raw_recipe["data"] = {
            "text": [str(tmp_path / f"{number}.txt") for number in range(len(texts))],
            "max_length": 16,
            **data,
        }
        raw_recipe["stages"] = [{"objectives": {"labels": {}}, "max_steps": 2, "batch_size": 4}]
        return raw_recipe

    return made


@pytest.fixture
def of_prompts(raw_recipe, decoder, tmp_path):
    def made(asked):
        rows = [{"prompt": text, "references": ["red house"]} for text in asked]
        file = tmp_path / "few.train.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        raw_recipe["teacher"] = decoder
        raw_recipe["data"] = {
            "prompts": str(tmp_path / "few"),
            "max_length": 40,
            "max_new_tokens": 16,
        }
        raw_recipe["stages"] = [{"objectives": {"labels": {}}, "max_steps": 2, "batch_size": 4}]
        return raw_recipe

    return made


def problems_of(raw):
    setup, problems = check(raw)
    assert (setup is None) == bool(problems)
    return problems


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("length", [8, 64])
@pytest.mark.parametrize(
    "lines",
    [
        ["the", "a"],
        ["the old house", "the red garden", "never"],
        make_text(8),
        ["the old house"] * 50 + ["never"],
        [LONG, "the old house"],
        make_text(60),
        ["the old house " * 30, "猫"],
    ],
)
def test_two_lines_that_differ_are_enough(of_lines, lines, length, packed):
    setup = prepare(of_lines(lines, max_length=length, packing=packed))
    learned = stage_batches(setup, 0)
    held_out = stage_held_out(setup, 0)
    assert len(learned.table) >= 1 and len(held_out) >= 1
    assert learned.batch(0).student.mask.any() and held_out[0].student.mask.any()
    # Nothing of the held-out text is learned from.
    tokens = held_out[0].student
    rows = {tuple(row[real].tolist()) for row, real in zip(tokens.labels, tokens.mask, strict=True)}
    assert rows.isdisjoint(tuple(row.tolist()) for row in learned.table["input_ids"])


@pytest.mark.parametrize(("wanted", "sizes"), [(40, [32, 8]), (5, [5]), (1000, [32, 32, 11])])
def test_as_many_sequences_as_are_wanted_are_measured_once(of_lines, wanted, sizes):
    held_out = {"fraction": 0.3, "sequences": wanted}
    setup = prepare(of_lines(make_text(240), packing=False, max_length=64, held_out=held_out))
    found = [batch.student for batch in stage_held_out(setup, 0)]
    assert [len(tokens.mask) for tokens in found] == sizes
    rows = [
        tuple(row[real].tolist())
        for tokens in found
        for row, real in zip(tokens.labels, tokens.mask, strict=True)
    ]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["the old house"], r"holds 1 document\(s\); one has .* every line is a document"),
        ([LONG], r"holds 1 document\(s\); one has to be held out and another learned from"),
        (["the old house"] * 60, r"holds 60 document\(s\), all the same; one has to be"),
        (["the old house", "\u200b"], "hold no token of the student's tokenizer"),
        (["\u200b", "\u200c"], "no letter that the student's tokenizer keeps"),
    ],
)
def test_one_line_is_not(of_lines, lines, message):
    [(field, said)] = problems_of(of_lines(lines))
    assert field == "data.text.0" and re.search(message, said)


def test_each_text_needs_two(of_lines):
    [(field, said)] = problems_of(of_lines(make_text(80), ["the old house"]))
    assert field == "data.text.1" and "holds 1 document(s)" in said


def test_eight_lines_are_distilled(of_lines, tmp_path):
    run = distill(of_lines(make_text(8)), tmp_path / "run")
    assert run.report["held_out"]["labels"]["after"] > 0
    [warning] = [note for note in run.report["notes"] if "held_out.fraction" in note]
    assert "a held_out.fraction of 0.01 takes none of the few documents of" in warning


def test_a_large_share_leaves_one_to_learn_from(of_lines):
    setup = prepare(of_lines(make_text(3), held_out={"fraction": 1 - 1e-9}, packing=False))
    assert len(stage_batches(setup, 0).table) == 1
    assert any("takes all of the few" in warning for warning in setup.warnings)


@pytest.mark.parametrize(
    ("lines", "length", "packed", "count"),
    [(["the", "a"], 16, True, 1), (make_text(4), 16, False, 3), (make_text(6), 64, True, None)],
)
def test_less_than_a_batch_is_said(of_lines, lines, length, packed, count):
    setup = prepare(of_lines(lines, max_length=length, packing=packed))
    there = len(stage_batches(setup, 0).table)
    [warning] = [warning for warning in setup.warnings if "a step reads 4 rows" in warning]
    are, plural = ("is", "") if there == 1 else ("are", "s")
    assert f"there {are} {there} training sequence{plural} of {length} tokens" in warning
    assert count in (None, there)


def test_enough_is_said_nothing_about(raw_recipe):
    assert prepare(raw_recipe).warnings == []


@pytest.mark.parametrize(
    ("asked", "held_out"),
    [
        (["where", "who"], 1),
        ([f"ask {number}" for number in range(60)], 1),
        ([f"ask {number % 8}" for number in range(320)], 40),
        (["word " * 200 + str(number) for number in range(12)], 1),
    ],
)
def test_a_kind_of_prompt_is_held_out(of_prompts, asked, held_out):
    setup = prepare(of_prompts(asked))
    learned = prompt_batches(setup, held_out=False, size=4)
    rows = held_out_prompts(setup)
    assert len(rows) == held_out and len(learned.table) == len(asked) - held_out
    assert len({row.text for row in rows}) == 1
    assert stage_held_out(setup, 0)[0].student.predicted.any()
    assert ("a step reads 4 rows and there is 1 prompt to learn from" in str(setup.warnings)) == (
        len(asked) < 5
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["where"], r"holds 1 prompt\(s\); one has to be held out and another learned from"),
        (["where"] * 320, r"holds 320 prompt\(s\), all the same; one has to be held out"),
    ],
)
def test_one_kind_of_prompt_is_not_enough(of_prompts, asked, message):
    [(field, said)] = problems_of(of_prompts(asked))
    assert field == "data.prompts" and re.search(message, said)


def test_a_broken_prompt_is_found_wherever_it_stands(of_prompts, tmp_path):
    raw = of_prompts([f"ask {number}" for number in range(400)])
    with (tmp_path / "few.train.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"prompt": null, "references": ["red"]}')
    [(field, said)] = problems_of(raw)
    assert field == "data.prompts.0" and "line 401" in said


@pytest.mark.parametrize("kind", ["mixed", "match"])
def test_two_vocabularies_read_small_files_too(of_lines, vocabulary, kind):
    raw = of_lines(make_text(3), max_length=64)
    raw["student"] |= {"tokenizer": vocabulary, "hidden_size": 24}
    stage = {"alignment": {"kind": kind}, "objectives": {"logits": {}}}
    if kind == "mixed":
        stage = {"mixed": {}}
        raw["stages"].append(raw["stages"][0])
    raw["stages"][0] = {**stage, "max_steps": 2, "batch_size": 2}
    setup = prepare(raw)
    learned, held_out = stage_batches(setup, 0), stage_held_out(setup, 0)
    assert learned.batch(0).student.mask.any() and held_out[0].teacher.mask.any()
