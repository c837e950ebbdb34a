"""Ranges of activations are read off other texts than those on which files are compared."""

from itertools import pairwise

import pytest
import yaml

from limbeck.deploy import real_texts as module
from limbeck.deploy.real_texts import calibration_texts, real_texts
from limbeck.deploy.scores import ScoredTasks
from limbeck.deploy.source import Source
from limbeck.evaluation.embeddings.files import Pairs
from limbeck.evaluation.tasks import Example, Task, TaskKind
from limbeck.recipe.task_rows import TaskRows

NOTHING = ScoredTasks()


def source_of(kind):
    source = object.__new__(Source)  # only its name and kind are read
    for name, value in (("name", "no-run"), ("kind", kind)):
        object.__setattr__(source, name, value)
    return source


def labelled(numbers, label="a"):
    return [Example(text=f"text {number}", label=label) for number in numbers]


def said(rows):
    return {(row.text, row.words) for row in rows}


def both(kind, named=NOTHING):
    source = source_of(kind)
    compared, whence = real_texts(source, named)
    return compared, calibration_texts(source, named, compared=compared), whence


@pytest.mark.parametrize(("kind", "rows"), [("vectors", 256), ("token", 256), ("causal", 48)])
def test_lines_of_novels(kind, rows):
    compared, calibration, whence = both(kind)
    assert (len(compared), len(calibration)) == (rows, 128)
    assert not said(compared) & said(calibration)
    assert "novels" in whence


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 500, 511, 512, 1000])
def test_rows_are_taken_evenly_from_all(count):
    found = module._evenly(list(range(count)), 256)
    assert len(found) == min(count, 256)
    gaps = {after - before for before, after in pairwise([*found, count])}
    assert all(count // 256 <= gap <= -(-count // 256) for gap in gaps)
    assert found[:1] == [0][:count]


@pytest.mark.parametrize("name", ["run", "run/student", "."])
def test_a_student_stands_for_its_run(task_recipe, tmp_path, monkeypatch, name):
    raw = task_recipe("labels")
    (tmp_path / "run" / "student").mkdir(parents=True)
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    monkeypatch.chdir(tmp_path / "run" / "student" if name == "." else tmp_path)
    rows = module._rows_of_run(name)
    assert rows is not None and rows.held_out
    assert module._rows_of_run(str(tmp_path)) is None


def test_texts_of_pairs():
    of_novels = tuple(str(row.text) for row in both("vectors")[1][:5])
    left = tuple(f"left {number}" for number in range(40))
    compared, calibration, _ = both(
        "vectors", ScoredTasks(similarity=(Pairs("own", left, of_novels),))
    )
    assert said(compared) == {(text, None) for text in left}
    assert not said(calibration) & {(text, None) for text in of_novels}


def test_training_rows_of_a_task():
    task = Task(
        name="own",
        kind=TaskKind.CLASSIFICATION,
        headline="accuracy",
        positive=None,
        train=labelled(range(400), label="b"),
        test=labelled(range(300, 1000)),
        test_split="dev",
        labels=("a", "b"),
        tags=(),
    )
    compared, calibration, whence = both("sequence", ScoredTasks((task,)))
    assert "scored rows of own" in whence and len(compared) == 256
    assert len(calibration) == 128
    assert said(calibration) <= said(labelled(range(300)))


@pytest.mark.parametrize("train", [range(300), range(100, 110)])
def test_training_rows_of_a_run(monkeypatch, train):
    """Where all of them are compared, lines of novels take their place."""
    held_out = labelled(range(100, 200))
    rows = TaskRows(None, "sequence", labelled(train), held_out, 0)
    monkeypatch.setattr(module, "_rows_of_run", lambda run: rows)
    compared, calibration, whence = both("sequence")
    assert said(compared) == said(held_out) and "held out" in whence
    assert len(calibration) == 128 and not said(compared) & said(calibration)
    assert (said(calibration) <= said(labelled(train))) == (len(train) == 300)


@pytest.mark.parametrize(
    ("held_out", "train", "whence"),
    [
        (40, 9, "40 rows that the run held out"),
        (1, 300, "1 row that the run held out and 31 rows that the run learned from"),
        (
            2,
            20,
            "2 rows that the run held out, 10 rows that the run learned from and 20 lines of the"
            " demo's English novels",
        ),
        (0, 0, "256 lines of the demo's English novels"),
    ],
)
def test_a_few_rows_show_nothing(monkeypatch, held_out, train, whence):
    """On one text that was held out every file said what its model says."""
    rows = TaskRows(
        None, "sequence", labelled(range(1000, 1000 + train)), labelled(range(held_out)), 0
    )
    monkeypatch.setattr(module, "_rows_of_run", lambda run: rows)
    compared, calibration, found = both("sequence")
    assert found == whence and len(compared) >= 32
    assert not said(compared) & said(calibration)
    assert said(labelled(range(held_out))) <= said(compared)


@pytest.mark.parametrize("kind", ["body", "token"])
def test_texts_of_a_run_are_in_its_language(tmp_path, monkeypatch, kind):
    """A student of Russian text was compared on English novels."""
    (tmp_path / "student").mkdir()
    texts = [[f"текст {file} номер {n}" for n in range(1000)] for file in range(2)]
    texts[0][0] += " и далее" * 1000
    for number, lines in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
    raw = {
        "name": "russian",
        "student": {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1},
        "data": {"text": [str(tmp_path / f"{n}.txt") for n in range(3)]},  # one is gone
        "stages": [{"objectives": {"labels": {}}, "max_steps": 1}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    source = source_of(kind)
    object.__setattr__(source, "name", str(tmp_path))
    compared, whence = real_texts(source, NOTHING)
    calibration = calibration_texts(source, NOTHING, compared=compared)
    assert whence == "256 documents of the run's text" and len(calibration) == 128
    assert not said(compared) & said(calibration)
    for rows in (compared, calibration):
        first = [row.text or " ".join(row.words) for row in rows]
        assert {text.strip() for text in first} <= {
            text[:600].strip() for lines in texts for text in lines
        }
        assert all(any(f"текст {number}" in text for text in first) for number in range(2))
    (tmp_path / "recipe.yaml").write_text("teacher: [", encoding="utf-8")
    assert "novels" in real_texts(source, NOTHING)[1]


def test_scored_rows_stand_before_others(monkeypatch):
    rows = TaskRows(None, "sequence", labelled(range(50)), labelled(range(50, 53)), 0)
    monkeypatch.setattr(module, "_rows_of_run", lambda run: rows)
    test = labelled(range(52, 70))
    task = Task("own", TaskKind.CLASSIFICATION, "accuracy", None, [], test, "dev", ("a",), ())
    found = both("sequence", ScoredTasks((task,)))[2]
    assert found == (
        "3 rows that the run held out, 17 scored rows of own and 12 rows that the run learned from"
    )
