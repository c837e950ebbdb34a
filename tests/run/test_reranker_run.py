"""A student of a reranker: rows in pairs of one query, trained, resumed, cached and scored."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_text, resumed_and_cached, rows_are_those_of_the_whole
from sentence_transformers import CrossEncoder
from torch.nn import Identity
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.models.task_heads import SCORE
from limbeck.objectives import MarginMse
from limbeck.recipe.check import check, prepare
from limbeck.run.batches import stage_batches, stage_held_out
from limbeck.run.distill import distill
from limbeck.run.task_answers import answers_of, task_side


@pytest.fixture(scope="session")
def rankings(tmp_path_factory):
    """Queries with four documents each, the first of which is relevant; three have only one."""
    folder, texts = tmp_path_factory.mktemp("rankings"), make_text(400, seed=5)
    rows = [
        {"text": texts[q], "text_pair": texts[60 + 4 * q + d], "label": float(d == 0)}
        for q in range(50)
        for d in range(4 if q < 47 else 1)
    ]
    for split, some in (("train", [*rows[:132], *rows[188:]]), ("dev", rows[132:188])):
        lines = "\n".join(map(json.dumps, some))
        (folder / f"ranked.{split}.jsonl").write_text(lines, encoding="utf-8")
    return str(folder / "ranked")


@pytest.fixture
def raw(task_recipe, rankings):
    found = task_recipe("scores")
    found["data"] = {**found["data"], "task": rankings}
    found["stages"] = [
        {"objectives": {"margin_mse": {}, "class_logits": {}}, "max_steps": 4, "batch_size": 8}
    ]
    return found


def test_the_rows_of_a_pair_are_of_one_query(raw, vocabulary):
    raw["student"] = {**raw["student"], "tokenizer": vocabulary}
    setup = prepare(raw)
    source, rows = stage_batches(setup, 0), setup.rows
    pairs, alone = 0, 0
    for number in range(12):
        batch = source.batch(number)
        rows_are_those_of_the_whole(source, number)
        assert torch.equal(
            source.batch(number, slice(2, 6)).student.queries, batch.student.queries[2:6]
        )
        assert torch.equal(batch.student.queries, batch.teacher.queries)
        same = batch.student.queries[0::2] == batch.student.queries[1::2]
        texts = [rows.train[place].text for place in source._places(number)]
        assert same.tolist() == [a == b for a, b in zip(texts[0::2], texts[1::2], strict=True)]
        pairs, alone = pairs + int(same.sum()), alone + int((~same).sum())
        assert MarginMse().count(batch) == int(same.sum())
    assert pairs > 10 * alone > 0


def test_held_out_rows_are_read_once_and_in_pairs(raw):
    raw["data"] = {**raw["data"], "held_out": {"fraction": 0.2, "sequences": 30}}
    setup = prepare(raw)
    assert not {row.text for row in setup.rows.train} & {row.text for row in setup.rows.held_out}
    batches = stage_held_out(setup, 0)
    count = sum(len(batch.student.mask) for batch in batches)
    assert count == min(30, len(setup.rows.held_out))
    assert sum(map(MarginMse().count, batches)) >= count // 2 - 2


def test_a_run_resumes_learns_the_same_from_a_cache_and_is_ranked(raw, tmp_path, monkeypatch):
    raw["training"] = {**raw["training"], "save_steps": 1}
    run = resumed_and_cached(raw, tmp_path, monkeypatch)
    assert run.report["quality"]["ranked"]["metric"] == "ndcg_at_10"
    found = run.report["task_answers"]["rankings"]["student"]
    assert found.keys() == {"ndcg_at_10", "mrr"}
    score = found["ndcg_at_10"]
    assert 0 < score["low"] <= score["score"] <= score["high"] <= 1
    page = (tmp_path / "whole" / "report" / "report.md").read_text(encoding="utf-8")
    assert "Ranking on ranked" in page
    assert "margin_mse" in run.report["held_out"]
    command = ["evaluate", str(tmp_path / "whole"), "--own-head", "--task", raw["data"]["task"]]
    command += ["--max-length", "24", "-o", str(tmp_path / "scores")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "by query" in done.output, done.output
    scores = json.loads((tmp_path / "scores" / "evaluation.json").read_text())["ranked"]
    assert scores["rankings"]["mrr"]["score"] == pytest.approx(found["mrr"]["score"])
    assert scores["mean"] == pytest.approx(score["score"])


def test_rows_without_labels_are_enough(raw, rankings, tmp_path):
    lines = Path(f"{rankings}.train.jsonl").read_text(encoding="utf-8").splitlines()
    plain = [{key: json.loads(line)[key] for key in ("text", "text_pair")} for line in lines]
    (tmp_path / "plain.train.jsonl").write_text("\n".join(map(json.dumps, plain)))
    raw["data"] = {"rows": str(tmp_path / "plain"), "max_length": 24}
    raw["stages"] = [{"preset": "reranker", "max_steps": 2, "batch_size": 4}]
    narrower = {"layers": "uniform", "width": "importance"}  # the pooler of the teacher too
    raw["student"] = {**raw["student"], "init_from_teacher": narrower}
    run = distill(raw, tmp_path / "run")
    assert np.isfinite(run.report["held_out"]["margin_mse"]["after"])


def test_rows_that_are_alone_are_counted(raw):
    setup = prepare(raw)
    [said] = [warning for warning in setup.warnings if "margin_mse" in warning]
    assert said.startswith("3 of ")


def test_rows_that_cannot_be_compared(raw, task_recipe, task_files):
    field = "stages.0.objectives.margin_mse"
    scores = {**raw, "data": {**raw["data"], "task": str(task_files / "scores")}}
    assert "not all rows are pairs" in dict(check(scores)[1])[field]
    tags = task_recipe("tags")
    tags["stages"] = [{"objectives": {"margin_mse": {}}, "max_steps": 2, "batch_size": 4}]
    assert "gives classes" in dict(check(tags)[1])[field]
    odd = {**raw, "stages": [{**raw["stages"][0], "batch_size": 7}]}
    assert "multiple of 2" in dict(check(odd)[1])["stages.0.batch_size"]


def test_queries_of_one_row_each_cannot_be_compared(raw, tmp_path):
    texts = make_text(60, seed=6)
    rows = [{"text": t, "text_pair": texts[0], "label": 1.0 * (n % 2)} for n, t in enumerate(texts)]
    for split, some in (("train", rows[:50]), ("dev", rows[50:])):
        (tmp_path / f"own.{split}.jsonl").write_text("\n".join(map(json.dumps, some)))
    raw["data"] = {**raw["data"], "task": str(tmp_path / "own")}
    assert "has its own" in dict(check(raw)[1])["stages.0.objectives.margin_mse"]


def test_a_cross_encoder_of_sentence_transformers_is_a_teacher(raw, tmp_path):
    before = CrossEncoder(raw["teacher"], num_labels=1, device="cpu", max_length=24)
    before.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    before.save_pretrained(str(tmp_path / "teacher"))
    setup = prepare({**raw, "teacher": str(tmp_path / "teacher")})
    assert setup.models.teacher.head.scores
    rows = setup.rows.task.test
    found = answers_of(task_side(str(tmp_path / "teacher")), rows, (SCORE,), max_length=24)
    wanted = before.predict([(row.text, row.text_pair) for row in rows], activation_fn=Identity())
    assert found.logits[:, 0] == pytest.approx(wanted, abs=1e-4)
