"""Texts of which any number of labels may hold: rows, scores and fine-tuning."""

import json
import math

import datasets
import numpy as np
import pandas
import pytest
import torch
from conftest import LABELS, make_text

from limbeck.errors import DataError
from limbeck.evaluation.examples import Row, multi_hot
from limbeck.evaluation.finetune import finetune
from limbeck.evaluation.finetuning.learning import TaskLoss
from limbeck.evaluation.finetuning.validation import with_validation
from limbeck.evaluation.metrics import multi_label_metrics
from limbeck.evaluation.scoring_notes import scoring_notes
from limbeck.evaluation.settings import FinetuneSettings
from limbeck.evaluation.task_files import load_rows, load_task
from limbeck.evaluation.tasks import Example, TaskKind

TEXTS = make_text(40)
HELD = [("toxic", "threat"), ("toxic",), (), ("insult",)]
COLUMNS = ["toxic", "threat", "insult"]


def one_hot(folder, *, yes="1", no="0", last=None):
    """A csv file with a column for each label."""
    lines = ["id,comment," + ",".join(COLUMNS)]
    for number, text in enumerate(TEXTS):
        held = HELD[number % len(HELD)]
        lines.append(f"{number},{text}," + ",".join(yes if c in held else no for c in COLUMNS))
    if last is not None:
        lines.append(f"{len(TEXTS)},one more,{last}")
    (folder / "comments.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"path": str(folder / "comments.csv"), "text": "comment", "label": COLUMNS}


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("True", "False")])
def test_a_column_for_each_label(tmp_path, yes, no):
    task = load_task(one_hot(tmp_path, yes=yes, no=no))
    assert (task.kind, task.headline) == (TaskKind.MULTI_LABEL, "micro_f1")
    assert task.labels == tuple(sorted(COLUMNS)) and not task.tags
    found = {row.text: row.label for row in (*task.train, *task.test)}
    for number, text in enumerate(TEXTS):
        assert found[text] == tuple(sorted(HELD[number % len(HELD)]))


def test_a_column_that_holds_in_no_row_is_told(tmp_path):
    source = one_hot(tmp_path)
    assert not any("these rows alone" in note for note in scoring_notes(load_task(source)))
    text = (tmp_path / "comments.csv").read_text(encoding="utf-8").replace("insult", "insult,hate")
    lines = [line + ("" if "hate" in line else ",0") for line in text.splitlines()]
    (tmp_path / "comments.csv").write_text("\n".join(lines), encoding="utf-8")
    task = load_task(source | {"label": [*COLUMNS, "hate"]})
    assert task.labels == tuple(sorted(COLUMNS))
    notes = [note for note in scoring_notes(task) if "these rows alone" in note]
    assert len(notes) == 1 and "no training row has the label 'hate'" in notes[0]


@pytest.mark.parametrize(
    ("change", "last", "said"),
    [
        ({}, "1,0,2", "row 41 .* column 'insult' of a label has '2'; give 1 where"),
        ({}, "1,0,", "column 'insult' of a label has ''"),
        ({}, "-1,-1,-1", "`label` is empty|needed are"),
        ({"label": ["toxic", "nothing"]}, None, "column 'nothing' for `label` is not there"),
        ({"label": ["toxic", "toxic"]}, None, "name the same column 'toxic'"),
        ({"text": "toxic"}, None, "text and label name the same column 'toxic'"),
        ({"label": []}, None, "label"),
        ({"labels": ["a", "b"]}, None, "leave labels out"),
        ({"problem_type": "classification"}, None, "leave problem_type out"),
        ({"label_separator": ","}, None, "leave label_separator out"),
    ],
)
def test_columns_that_are_none_of_labels(tmp_path, change, last, said):
    with pytest.raises(DataError, match=said):
        load_task(one_hot(tmp_path, last=last) | change)


def test_labels_that_are_not_read_need_not_be_right(tmp_path):
    source = one_hot(tmp_path, last="1,0,2")
    rows = load_rows(source)
    assert len(rows) == 41 and rows[-1].label is None and rows[0].label == ("threat", "toxic")


def test_lists_of_class_labels_keep_their_names(tmp_path):
    names = ["joy", "love", "anger"]
    features = datasets.Features(
        {
            "body": datasets.Value("string"),
            "emotions": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    held = [[0, 2], [1], [], [2, 1]] * 10
    table = datasets.Dataset.from_dict({"body": TEXTS, "emotions": held}, features=features)
    table.to_parquet(tmp_path / "emotions.parquet")
    source = {"path": str(tmp_path / "emotions.parquet"), "text": "body", "label": "emotions"}
    task = load_task(source)
    assert task.kind is TaskKind.MULTI_LABEL and task.labels == tuple(sorted(names))
    found = {row.text: row.label for row in (*task.train, *task.test)}
    assert [found[text] for text in TEXTS[:4]] == [
        ("anger", "joy"),
        ("love",),
        (),
        ("anger", "love"),
    ]
    with pytest.raises(DataError, match="is a list, and problem_type is regression"):
        load_task(source | {"problem_type": "regression"})


def test_lists_that_a_csv_file_spells(tmp_path):
    spelled = ["\"['joy', 'love']\"", "['anger']", "[]", '"[""joy""]"']
    lines = [f"{text},{spelled[n % 4]}" for n, text in enumerate(TEXTS)]
    file = tmp_path / "emotions.csv"
    file.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    task = load_task(str(file))
    found = {row.text: row.label for row in (*task.train, *task.test)}
    assert [found[text] for text in TEXTS[:4]] == [("joy", "love"), ("anger",), (), ("joy",)]
    numbered = "\n".join(
        ["text,label", *(f'{text},"[{n % 3}, 3]"' for n, text in enumerate(TEXTS))]
    )
    file.write_text(numbered, encoding="utf-8")
    assert load_task({"path": str(file), "labels": list("abcd")}).labels == tuple("abcd")
    file.write_text("\n".join(["text,label", *(f"{t},[music]" for t in TEXTS)]), encoding="utf-8")
    assert load_task(str(file)).labels == ("[music]",)


def test_labels_that_one_text_has(tmp_path):
    spelled = ['"joy, love"', "anger", "", '"love,"']
    lines = [f"{text},{spelled[n % 4]}" for n, text in enumerate(TEXTS)]
    file = tmp_path / "emotions.csv"
    file.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    source = {"path": str(file), "label_separator": ","}
    task = load_task(source)
    assert task.kind is TaskKind.MULTI_LABEL and task.labels == ("anger", "joy", "love")
    found = {row.text: row.label for row in (*task.train, *task.test)}
    assert [found[text] for text in TEXTS[:4]] == [("joy", "love"), ("anger",), (), ("love",)]
    rows = [{"text": text, "label": ["2|0", 1, None][n % 3]} for n, text in enumerate(TEXTS)]
    (tmp_path / "ids.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    ids = {"path": str(tmp_path / "ids.jsonl"), "label_separator": "|", "labels": list("abc")}
    assert [row.label for row in load_rows(ids)[:3]] == [("a", "c"), ("b",), None]
    with pytest.raises(DataError, match="several labels, and problem_type is regression"):
        load_task(source | {"problem_type": "regression"})


@pytest.mark.parametrize("between", [",", " | ", "; "])
def test_classes_that_are_others_joined_are_told(tmp_path, between):
    labels = ["joy", "love", f"joy{between}love", f"joy{between}in-law"]
    rows = [{"text": text, "label": labels[n % 4]} for n, text in enumerate(TEXTS)]
    file = tmp_path / "emotions.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (note,) = (one for one in scoring_notes(load_task(str(file))) if "joined" in one)
    assert f"its labels {labels[2]!r} are others joined" in note
    assert f'say label_separator: "{between.strip()}"' in note


@pytest.mark.parametrize("kind", [np.array, tuple, set])
def test_arrays_tuples_and_sets_that_a_csv_file_spells(tmp_path, kind):
    names = [["joy", "love"], ["it's anger"], [], ["joy"], ["joy", "love", "no love"]]
    held = [names[n % len(names)] for n in range(len(TEXTS))]
    file = tmp_path / "emotions.csv"
    pandas.DataFrame({"text": TEXTS, "label": map(kind, held)}).to_csv(file, index=False)
    task = load_task(str(file))
    found = {row.text: row.label for row in (*task.train, *task.test)}
    assert [found[text] for text in TEXTS] == [tuple(some) for some in held]
    numbers = [[[3, 10], [1]][n % 2] for n in range(len(TEXTS))]
    pandas.DataFrame({"text": TEXTS, "label": map(kind, numbers)}).to_csv(file, index=False)
    named = load_task({"path": str(file), "labels": {1: "a", 3: "b", 10: "c"}})
    assert {row.label for row in named.train} == {("b", "c"), ("a",)}


def test_labels_that_are_numbers_get_names(tmp_path):
    rows = [{"text": text, "label": [n % 3, 3] if n % 2 else []} for n, text in enumerate(TEXTS)]
    file = tmp_path / "numbers.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert load_task(str(file)).labels == ("0", "1", "2", "3")
    named = load_task({"path": str(file), "labels": ["a", "b", "c", "d"]})
    assert named.labels == ("a", "b", "c", "d")
    with pytest.raises(DataError, match="has no name; names are there for 0, 1, 2"):
        load_task({"path": str(file), "labels": ["a", "b", "c"]})


def test_scores_are_those_of_plain_counts():
    said = [["a", "b"], [], ["c"], ["a"], []]
    right = [["a"], ["b"], ["c"], ["a", "c"], []]
    hits, all_said, all_right = {}, {}, {}
    for one, other in zip(said, right, strict=True):
        for label in "abc":
            hits[label] = hits.get(label, 0) + (label in one and label in other)
            all_said[label] = all_said.get(label, 0) + (label in one)
            all_right[label] = all_right.get(label, 0) + (label in other)
    f1 = [2 * hits[x] / (all_said[x] + all_right[x]) for x in "abc"]
    found = multi_label_metrics(said, right)
    whole = 2 * sum(hits.values()) / (sum(all_said.values()) + sum(all_right.values()))
    assert found["micro_f1"] == pytest.approx(whole)
    assert found["macro_f1"] == pytest.approx(sum(f1) / 3)
    assert found["subset_accuracy"] == 2 / 5
    nothing = multi_label_metrics([[], []], [[], []])
    assert nothing == {"micro_f1": 0.0, "macro_f1": 0.0, "subset_accuracy": 1.0}


def test_the_loss_is_the_mean_binary_cross_entropy(task_files):
    task = load_task(str(task_files / "several"))
    rows = [Row({"input_ids": [1]}, held, [-100], [-1]) for held in ((0, 2), (), (1,))]
    logits = torch.tensor([[0.5, -1.0, 2.0], [0.1, 0.2, -3.0], [1.5, 0.3, 0.0]])
    found = TaskLoss(task, rows)((logits, None), rows, torch.full((3, 1), -100))
    expected = 0.0
    for row, line in zip(rows, logits.tolist(), strict=True):
        for number, logit in enumerate(line):
            chance = 1 / (1 + math.exp(-logit))
            expected -= math.log(chance if number in row.label else 1 - chance)
    assert float(found) == pytest.approx(expected / 9, rel=1e-5)


def test_rows_whose_labels_are_not_known_are_no_rows_without_labels():
    rows = [Example("a", label=("y",)), Example("b", label=()), Example("c")]
    found = multi_hot(rows, ("x", "y"))
    assert found[:2].tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert found[2].isnan().all()


def test_every_model_is_finetuned_and_scored_on_them(task_files, task_recipe):
    task = load_task(str(task_files / "several"))
    held = with_validation(task, fraction=0.2, seed=0)
    rare = {label for row in held.test for label in row.label}
    assert rare == set(LABELS) and len(held.train) + len(held.test) == len(task.train)
    settings = FinetuneSettings(num_train_epochs=0.5, learning_rate=1e-3, search=None)
    tuned = finetune(task_recipe("labels")["teacher"], task, settings=settings, seed=0)
    score = tuned.score(task)
    assert not score.labels and len(score.tags) == len(task.test)
    said = [[task.labels[number] for number in row] for row in score.tags]
    assert score.metrics == multi_label_metrics(said, [row.label for row in task.test])
    assert np.isfinite(tuned.loss(task))
