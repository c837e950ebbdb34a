"""Answers of a decoder to prompts, as files to learn from: their text, resuming, and problems."""

import io
import json
import math
import re
import shutil

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.data.prompts import read_prompts
from limbeck.errors import DataError, EvaluationError, LimbeckError
from limbeck.evaluation.settings import GenerationSettings
from limbeck.evaluation.text_generator import TextGenerator
from limbeck.run import generate_answers as answers
from limbeck.run.distill import distill
from limbeck.run.generate_answers import generate_answers
from limbeck.run.generate_samples import generate_samples
from limbeck.teacher.servers.settings import ServerSettings


def lines_of(place, split):
    text = place.with_name(f"{place.name}.{split}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def remove(place):
    for file in place.parent.glob(f"{place.name}.*.jsonl"):
        file.unlink()


def test_answers_are_what_the_model_generates_and_may_be_learned_from(
    raw_recipe, decoder, prompts, tmp_path
):
    place = tmp_path / "answers"
    found = generate_answers(decoder, place, prompts=prompts, max_new_tokens=12, temperature=0.0)
    assert found == {"answers.train.jsonl": 100, "answers.dev.jsonl": 20}
    generator = TextGenerator.load(decoder)
    rows = list(read_prompts(prompts))
    table = generator.table(rows, settings := GenerationSettings(max_new_tokens=12))
    generated, _ = generator.answers(table.prompts, settings, seed=0)
    expected = [
        {"prompt": row.text, "references": [generator.text(tokens)]}
        for row, tokens in zip(rows, generated, strict=True)
    ]
    assert lines_of(place, "train") == expected
    raw_recipe["teacher"] = decoder
    raw_recipe["data"] = {"prompts": str(place), "max_length": 40, "max_new_tokens": 16}
    raw_recipe["stages"] = [{"objectives": {"labels": {}}, "max_steps": 2, "batch_size": 4}]
    distill(raw_recipe, tmp_path / "run")


def ordered(generator, rows, settings, seed, *, at_once):
    """Texts of so many prompts at once, which are answered by length."""
    texts = []
    for first in range(0, len(rows), at_once):
        table = generator.table(rows[first : first + at_once], settings)
        chance = int(np.random.default_rng((seed, first)).integers(2**31))
        tokens, _ = generator.answers(table.prompts, settings, seed=chance)
        texts += map(generator.text, tokens)
    return texts


def test_a_stopped_call_resumes_after_each_batch(decoder, prompts, tmp_path, monkeypatch):
    """The order of the batches and their seeds are those of all that is ordered at once."""
    monkeypatch.setattr(answers, "_ORDERED_AT_ONCE", 30)
    options = {"prompts": prompts, "max_new_tokens": 8, "seed": 3, "batch_size": 8}
    real, calls = TextGenerator.answers, []

    def failing(self, some, settings, **more):
        calls.append(len(some))
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(self, some, settings, **more)

    with monkeypatch.context() as patched:
        patched.setattr(TextGenerator, "answers", failing)
        with pytest.raises(KeyboardInterrupt):
            generate_answers(decoder, tmp_path / "out", **options)
        assert not list(tmp_path.glob("out*.jsonl"))
        generate_answers(decoder, tmp_path / "out", **options)
    assert calls == [6, 8, 8, 8, 6, 8, 8, 8, 8, 6, 8, 8, 8, 2, 8, 4, 8, 8]
    assert not (tmp_path / "out.parts").exists()
    generator = TextGenerator.load(decoder)
    settings = GenerationSettings(max_new_tokens=8, temperature=1.0, batch_size=8)
    for split in ("train", "dev"):
        rows = list(read_prompts(prompts, split))
        texts = ordered(generator, rows, settings, 3, at_once=30)
        assert [line["references"] for line in lines_of(tmp_path / "out", split)] == [
            [text] for text in texts if text.strip()
        ]


def test_other_settings_take_no_kept_answers_and_lose_none(decoder, prompts, tmp_path, monkeypatch):
    place = tmp_path / "answers"
    options = {"prompts": prompts, "max_new_tokens": 8, "rows": 12}
    with monkeypatch.context() as stopped:
        stopped.setattr(shutil, "rmtree", lambda *_, **__: None)
        generate_answers(decoder, place, seed=0, **options)
    one = lines_of(place, "train")
    remove(place)
    generate_answers(decoder, place, seed=1, **options)
    assert len(one) == len(lines_of(place, "train")) == 12 and one != lines_of(place, "train")
    remove(place)
    # The answers of the first settings are still kept.
    monkeypatch.setattr(TextGenerator, "answers", None)
    generate_answers(decoder, place, seed=0, **options)
    assert lines_of(place, "train") == one and not place.with_name("answers.parts").exists()


@pytest.mark.parametrize(
    "there", ["out.train.jsonl", "out.dev.jsonl", "out.train.jsonl.gz", "out.origin.json"]
)
def test_nothing_that_is_there_is_replaced(tmp_path, there):
    """Seen before the model and the prompts are looked for."""
    (tmp_path / there).write_text("mine", encoding="utf-8")
    told = re.escape(f"{tmp_path / there} is there already, and nothing is replaced; give another")
    with pytest.raises(DataError, match=told):
        generate_answers("nowhere", tmp_path / "out", prompts="x")
    with pytest.raises(DataError, match=told):
        generate_samples("nowhere", tmp_path / "out", rows=4)
    assert (tmp_path / there).read_text(encoding="utf-8") == "mine"


def test_a_finished_command_says_so_and_files_that_come_meanwhile_stay(
    decoder, prompts, tmp_path, monkeypatch
):
    options = {"prompts": prompts, "max_new_tokens": 4, "rows": 4}
    generate_answers(decoder, tmp_path / "out", **options)
    before = lines_of(tmp_path / "out", "train")
    with pytest.raises(DataError, match=r"out.train.jsonl and .*out.dev.jsonl are there already"):
        generate_answers(decoder, tmp_path / "out", **options)
    assert lines_of(tmp_path / "out", "train") == before
    mine, real = tmp_path / "late.dev.jsonl", TextGenerator.answers

    def meanwhile(self, *some, **more):
        mine.write_text("mine", encoding="utf-8")
        return real(self, *some, **more)

    monkeypatch.setattr(TextGenerator, "answers", meanwhile)
    with pytest.raises(DataError, match=r"late.dev.jsonl is there already"):
        generate_answers(decoder, tmp_path / "late", **options)
    assert mine.read_text(encoding="utf-8") == "mine"
    mine.unlink()
    monkeypatch.setattr(TextGenerator, "answers", None)  # all answers were kept
    generate_answers(decoder, tmp_path / "late", **options)
    assert lines_of(tmp_path / "late", "train") == before


def test_prompts_are_what_recipes_take(decoder, tmp_path):
    rows = [{"prompt": f"the old {n}"} for n in range(3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "asked.train.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "q.csv").write_text("q\n" + "".join(f"{row['prompt']}\n" for row in rows))
    options = ["--max-new-tokens", "6", "--temperature", "0"]
    found = []
    for number, asked in enumerate(
        (
            tmp_path / "asked",
            tmp_path / "asked.train.jsonl",
            tmp_path / "folder",
            f"{{path: {tmp_path / 'q.csv'}, prompt: q}}",
        )
    ):
        command = ["generate", decoder, "-o", str(tmp_path / f"out{number}"), *options]
        result = CliRunner().invoke(app, [*command, "--prompts", str(asked)])
        assert result.exit_code == 0, result.exception
        found.append(lines_of(tmp_path / f"out{number}", "train"))
    assert [line["prompt"] for line in found[0]] == [row["prompt"] for row in rows]
    assert all(lines == found[0] for lines in found)


def test_the_command_takes_prompts_without_references(decoder, tmp_path):
    rows = "".join(json.dumps({"prompt": f"the old {n}"}) + "\n" for n in range(5))
    (tmp_path / "asked.train.jsonl").write_text(rows, encoding="utf-8")
    place, asked = str(tmp_path / "out"), str(tmp_path / "asked")
    command = ["generate", decoder, "-o", place, "--prompts", asked, "--max-new-tokens", "6"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "5 of 5 texts did not come to their end" in result.output
    assert len(lines_of(tmp_path / "out", "train")) == 5
    assert not (tmp_path / "out.dev.jsonl").exists()


def test_long_prompts_are_counted(decoder, tmp_path):
    text = json.dumps({"prompt": "the old garden " * 60}) + "\n"
    (tmp_path / "long.train.jsonl").write_text(text, encoding="utf-8")
    said = Console(record=True, file=io.StringIO())
    generate_answers(
        decoder, tmp_path / "out", prompts=str(tmp_path / "long"), max_new_tokens=8, console=said
    )
    assert "1 of 1 prompts were too long" in said.export_text()


@pytest.mark.parametrize("temperature", [math.inf, math.nan, 1e38, 100.5, -1.0, 1e-38])
def test_temperatures_are_those_of_policies_and_of_evaluation(tmp_path, temperature):
    """Refused before the model is looked for."""
    told = re.escape(f"the temperature is {temperature:g}; give 0 (greedy), or 0.001 to 100")
    with pytest.raises(DataError, match=told):
        generate_samples(
            "nowhere", tmp_path / "out", rows=4, max_new_tokens=8, temperature=temperature
        )
    with pytest.raises(DataError, match=told):
        generate_answers("nowhere", tmp_path / "out", prompts="x", temperature=temperature)


@pytest.mark.parametrize("count", [0, -5])
def test_answers_have_a_token_at_least(tmp_path, count):
    """Refused before the model, the server and the prompts are looked for."""
    told = f"max_new_tokens is {count}; give at least 1"
    options = {"prompts": "x", "max_new_tokens": count}
    with pytest.raises(DataError, match=told):
        generate_answers("nowhere", tmp_path / "out", **options)
    with pytest.raises(DataError, match=told):
        generate_answers(ServerSettings(url="http://a"), tmp_path / "out", **options)
    for words in (["m"], ["--server", "http://a", "--prompts", "x"]):
        command = ["generate", *words, "-o", str(tmp_path / "out"), f"--max-new-tokens={count}"]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2 and "greater than or equal to 1" in done.output


def test_a_conversation_without_a_template_is_found_before_anything_starts(tmp_path):
    """Wherever it is among the rows that are answered."""
    talk = [{"role": "user", "content": "who"}, {"role": "assistant", "content": "he"}]
    rows = [*({"prompt": f"the {n}"} for n in range(40)), {"messages": talk}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "asked.train.jsonl").write_text(json.dumps(rows[0]), encoding="utf-8")
    (tmp_path / "asked.dev.jsonl").write_text(text, encoding="utf-8")
    told = "line 41 of .*asked.dev.jsonl is a conversation, .*give --chat-template"
    options = {"prompts": str(tmp_path / "asked")}
    server = ServerSettings(url="http://127.0.0.1:9")
    with pytest.raises(DataError, match=told):
        generate_answers("nowhere", tmp_path / "out", **options)
    with pytest.raises(DataError, match=told):
        generate_answers(server, tmp_path / "out", **options)
    with pytest.raises(LimbeckError, match="nowhere"):
        generate_answers("nowhere", tmp_path / "out", rows=40, **options)


def test_problems(decoder, prompts, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="is where the prompts are"):
        generate_answers(decoder, prompts, prompts=prompts)
    with pytest.raises(DataError, match="nowhere.train.jsonl"):
        generate_answers(decoder, tmp_path / "out", prompts=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="the temperature is -1"):
        generate_answers(decoder, tmp_path / "out", prompts=prompts, temperature=-1.0)
    for wrong in (101.0, 1e9, math.inf, math.nan):
        with pytest.raises(DataError, match="the temperature is .*; give .* to 100"):
            generate_answers(decoder, tmp_path / "out", prompts=prompts, temperature=wrong)
        with pytest.raises(DataError, match="the temperature is .*; give .* to 100"):
            generate_samples(decoder, tmp_path / "out", rows=4, temperature=wrong)
    with pytest.raises(DataError, match="no chat template"):
        generate_answers(
            decoder, tmp_path / "out", prompts=prompts, max_new_tokens=8, chat_template=True
        )
    monkeypatch.setattr(TextGenerator, "text", lambda self, row: " ")
    with pytest.raises(EvaluationError, match="answers none of 100 prompts"):
        generate_answers(decoder, tmp_path / "out", prompts=prompts, max_new_tokens=8)
    assert not list(tmp_path.glob("out.*.jsonl"))
