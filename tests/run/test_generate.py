"""Answers of a decoder to prompts, as files to learn from: their text, resuming, and problems."""

import io
import json
import math
import re
import shutil

import pytest
from rich.console import Console
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.data.prompts import read_prompts
from limbeck.errors import DataError, EvaluationError
from limbeck.evaluation.settings import GenerationSettings
from limbeck.evaluation.text_generator import TextGenerator
from limbeck.run import generate_answers as answers
from limbeck.run.distill import distill
from limbeck.run.generate_answers import generate_answers
from limbeck.run.generate_samples import generate_samples


def lines_of(place, split):
    text = place.with_name(f"{place.name}.{split}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


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


def test_a_stopped_call_resumes(decoder, prompts, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "_KEPT_AT_ONCE", 30)
    options = {"prompts": prompts, "max_new_tokens": 8, "seed": 3}
    generate_answers(decoder, tmp_path / "whole", **options)
    real, calls = TextGenerator.answers, []

    def failing(self, some, settings, **more):
        calls.append(len(some))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, some, settings, **more)

    monkeypatch.setattr(TextGenerator, "answers", failing)
    with pytest.raises(KeyboardInterrupt):
        generate_answers(decoder, tmp_path / "stopped", **options)
    assert not list(tmp_path.glob("stopped*.jsonl"))
    generate_answers(decoder, tmp_path / "stopped", **options)
    assert calls == [30, 30, 30, 30, 10, 20]
    for split in ("train", "dev"):
        assert lines_of(tmp_path / "stopped", split) == lines_of(tmp_path / "whole", split)
    assert not (tmp_path / "stopped.parts").exists()


def test_other_settings_take_no_kept_answers(decoder, prompts, tmp_path, monkeypatch):
    place = tmp_path / "answers"
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    one, other = (
        (
            generate_answers(decoder, place, prompts=prompts, max_new_tokens=8, seed=seed, rows=12),
            lines_of(place, "train"),
        )[1]
        for seed in (0, 1)
    )
    assert len(one) == len(other) == 12 and one != other


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
