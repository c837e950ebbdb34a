"""A student of a classifier whose classes do not exclude one another, to its exported file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import HEADS, LABELS
from transformers import AutoModelForSequenceClassification, pipeline

import limbeck
from limbeck.batch import UNLABELED
from limbeck.deploy.export import export
from limbeck.deploy.formats import FLOAT32
from limbeck.deploy.settings import ExportSettings
from limbeck.errors import EvaluationError
from limbeck.evaluation.calibration import calibration
from limbeck.evaluation.task_files import load_task
from limbeck.recipe.check import prepare
from limbeck.run.distill import distill
from limbeck.run.measure_task import _flips, _one_by_one
from limbeck.run.models import build_models
from limbeck.run.own_head import own_head_scores
from limbeck.run.task_answers import Answers, answers_of, known, task_side
from limbeck.student.label_bias import log_odds


@pytest.fixture(scope="module")
def held(task_files):
    return [row.label for row in load_task(str(task_files / "several")).test]


def test_a_student_and_what_it_says_everywhere(task_recipe, task_files, held, tmp_path):
    """As transformers' pipeline says it, `limbeck evaluate`, and the exported file."""
    task = str(task_files / "several")
    run = distill(task_recipe("several"), tmp_path / "run")
    model = AutoModelForSequenceClassification.from_pretrained(run.student)
    assert model.config.problem_type == "multi_label_classification"
    texts = [row.text for row in load_task(task).test]
    classify = pipeline("text-classification", str(run.student), device="cpu", top_k=None)
    expected = [
        {found["label"] for found in row if found["score"] > 0.5}
        for row in classify(texts, truncation=True)
    ]
    right = np.mean([said == {*row} for said, row in zip(expected, held, strict=True)])
    scores = own_head_scores(str(run.student), [task], split=None, max_length=24)
    assert scores["several"].seeds[0].metrics["subset_accuracy"] == pytest.approx(right)
    report = run.report["quality"]["several"]
    assert report["student"] == pytest.approx(scores["several"].mean)
    assert report["metric"] == "micro_f1" and report["teacher"] is not None
    answers = run.report["task_answers"]
    assert {flip["label"] for flip in answers["flips"]} == set(LABELS)
    assert {"student", "teacher"} <= answers["sureness"].keys()
    settings = ExportSettings(formats=(FLOAT32,), tasks=(task,))
    export(str(run.student), tmp_path / "files", settings)
    loaded = limbeck.load(str(tmp_path / "files"))
    assert loaded.multi_label and loaded.labels == LABELS
    said = [
        {label for label, logit in zip(LABELS, row, strict=True) if logit > 0}
        for row in loaded.logits(texts)
    ]
    assert said == expected
    of_file = loaded.score(load_task(task), max_length=24)
    assert of_file.metrics == scores["several"].seeds[0].metrics
    with pytest.raises(EvaluationError, match="multi-label head, and labels is a task of the kind"):
        own_head_scores(str(run.student), [str(task_files / "labels")], split=None, max_length=24)
    with pytest.raises(EvaluationError, match="give the labels of such rows as lists"):
        own_head_scores(str(run.student), [str(task_files / "labels")], split=None, max_length=24)
    model.config.problem_type = None
    model.config.save_pretrained(run.student)
    with pytest.raises(EvaluationError, match="say so in its config.json .problem_type: multi_lab"):
        own_head_scores(str(run.student), [task], split=None, max_length=24)


def test_answers_of_rows_with_and_without_labels(task_recipe, task_files):
    side = task_side(task_recipe("several")["teacher"])
    rows = load_task(str(task_files / "several")).test[:6]
    rows[2] = replace(rows[2], label=None)
    labels = LABELS[::-1]
    found = answers_of(side, rows, labels, max_length=24)
    assert found.multi_label and found.right.shape == (6, 3)
    for row, right in zip(rows, found.right.tolist(), strict=True):
        expected = [UNLABELED] * 3
        if row.label is not None:
            expected = [int(label in row.label) for label in labels]
        assert right == expected
    assert len(known(found).right) == 5
    assert (found.best == (found.logits > 0)).all()


def test_flips_and_calibration_of_labels_one_by_one():
    right = np.array([[1, 0], [1, 1], [0, 0]])
    mine = Answers(np.array([[2.0, -1.0], [-1.0, 3.0], [1.0, -2.0]]), right, ((),) * 3)
    theirs = Answers(np.array([[2.0, 1.0], [1.0, -3.0], [-1.0, -2.0]]), right, ((),) * 3)
    flips = {flip.label: flip for flip in _flips(mine, theirs, ("a", "b"))}
    assert (flips["a"].rows, flips["a"].lost, flips["a"].gained) == (2, 2, 0)
    assert (flips["b"].rows, flips["b"].lost, flips["b"].gained) == (1, 0, 2)
    alone = _one_by_one(mine)
    chances = 1 / (1 + np.exp(-mine.logits))
    brier = np.mean(2 * (chances - right) ** 2)
    assert calibration(alone.logits, alone.right).brier == pytest.approx(brier)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "deberta-v2", "gpt2"])
def test_a_new_head_begins_at_how_often_each_label_holds(family, task_recipe):
    raw = task_recipe("several", family)
    gold = {**raw, "teacher": None, "student": raw["student"] | {"model_type": family}}
    gold["student"]["tokenizer"] = raw["teacher"]
    gold["stages"] = [{"preset": "fine-tuning", "max_steps": 2}]
    setup = prepare(gold)
    student, _ = build_models(setup, Accelerator(cpu=True))
    rows = [row.label for row in setup.rows.train]
    head = setup.models.student.head
    shares = [(sum(x in row for row in rows) + 1 / 4) / (len(rows) + 1) for x in head.labels]
    [output] = [m for m in student.modules() if getattr(m, "out_features", 0) == 3]
    if output.bias is None:  # of decoders
        assert family == "gpt2"
        return
    assert output.bias.sigmoid().tolist() == pytest.approx(shares, rel=1e-4)


def test_log_odds_of_labels_that_nobody_knows():
    nothing = torch.full((5, 3), float("nan"))
    assert log_odds(nothing).sigmoid().tolist() == pytest.approx([1 / 4] * 3)
    always = torch.cat([nothing, torch.tensor([[1.0, 0.0, 1.0]] * 50)])
    found = log_odds(always)
    assert found.isfinite().all() and found[0] == found[2] > 4 and found[1] < -4


def test_the_teacher_may_have_its_labels_in_another_order(task_recipe, tmp_path):
    raw = task_recipe("several")
    head = HEADS["several"]
    model = AutoModelForSequenceClassification.from_pretrained(raw["teacher"])
    order = [2, 0, 1]
    output = [m for m in model.modules() if getattr(m, "out_features", 0) == 3][-1]
    with torch.no_grad():
        output.weight.copy_(output.weight[order])
        output.bias.copy_(output.bias[order])
    replace(head, labels=tuple(LABELS[n] for n in order)).set_on(model.config)
    model.save_pretrained(tmp_path / "turned")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (tmp_path / "teacher-several-bert" / name).read_text(encoding="utf-8")
        (tmp_path / "turned" / name).write_text(text, encoding="utf-8")
    raw |= {"student": raw["teacher"], "teacher": str(tmp_path / "turned")}
    distill(raw, tmp_path / "run")
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    means = [found for line in lines if (found := json.loads(line).get("held_out"))]
    assert means[0]["class_logits"] == pytest.approx(0.0, abs=1e-6)
    assert means[0]["class_labels"] > 0.5
