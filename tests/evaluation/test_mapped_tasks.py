"""Tasks of rows as people have them: a file, a folder, or a mapping of columns."""

import json
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_text
from rich.console import Console

from limbeck.data.rows import RowSource
from limbeck.errors import DataError
from limbeck.evaluation.scoring_notes import scoring_notes
from limbeck.evaluation.settings import FinetuneSettings
from limbeck.evaluation.task_files import (
    content_of_task,
    is_generation_task,
    load_rows,
    load_task,
    name_of_task,
)
from limbeck.evaluation.tasks import Example, TaskKind
from limbeck.recipe.check import check
from limbeck.recipe.parse import parse_evaluation, parse_recipe
from limbeck.recipe.read import dump_recipe
from limbeck.recipe.schema import EvaluationPart
from limbeck.run.evaluate import evaluate_model

TEXTS = make_text(40)


def reviews(folder, name="reviews.csv", texts=TEXTS, stars=("5", "1")):
    """A csv file of texts, whose stars alternate."""
    rows = [f'{n},"{text}",{stars[n % len(stars)]}' for n, text in enumerate(texts)]
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("id,body,stars\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return {"path": str(folder / name), "text": "body", "label": "stars"}


def put(folder, name, rows):
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return str(folder / name)


def test_a_csv_is_a_task_whose_columns_are_named(tmp_path):
    source = reviews(tmp_path) | {"split": {"dev": 0.25}, "labels": {5: "good", 1: "bad"}}
    task = load_task(source)
    assert (task.name, task.kind, task.test_split) == ("reviews", TaskKind.CLASSIFICATION, "dev")
    assert (task.labels, task.headline) == (("bad", "good"), "accuracy")
    assert (len(task.train), len(task.test)) == (30, 10)
    assert sorted(row.text for row in (*task.train, *task.test)) == sorted(TEXTS)
    assert scoring_notes(task) == [] and not is_generation_task(source)
    assert load_task(RowSource(**source)) is load_task(source) is load_task(json.dumps(source))
    assert name_of_task(source) == "reviews"


def test_labels_that_are_numbers_in_a_csv_are_classes_unless_it_is_said(tmp_path):
    source = reviews(tmp_path) | {"split": {"dev": 0.25}}
    task = load_task(source)
    assert task.labels == ("1", "5")
    [note] = scoring_notes(task)
    assert note.startswith("reviews: the 2 labels of ") and "(1, 5) and are read as classes" in note
    assert "say problem_type: regression" in note
    numbers = load_task(source | {"problem_type": "regression"})
    assert numbers.kind is TaskKind.REGRESSION
    assert {row.label for row in numbers.train} == {1.0, 5.0}
    classes = load_task(source | {"problem_type": "classification"})
    assert classes.train == task.train
    assert scoring_notes(numbers) == scoring_notes(classes) == []


def test_whole_numbers_of_parquet_are_amounts_unless_it_is_said(tmp_path):
    table = pa.table({"text": TEXTS, "label": [n % 2 for n in range(40)]})
    pq.write_table(table, tmp_path / "a.parquet")
    source = {"path": str(tmp_path / "a.parquet"), "split": {"dev": 0.1}}
    [note] = scoring_notes(load_task(source))
    assert "(0, 1), so it is scored as regression (spearman); say problem_type: class" in note
    classes = load_task(source | {"problem_type": "classification"})
    assert (classes.labels, scoring_notes(classes)) == (("0", "1"), [])


def test_a_tenth_is_held_out_and_said_where_no_rows_to_be_scored_are_there(tmp_path):
    rows = [{"text": text, "label": "xy"[n % 2]} for n, text in enumerate(TEXTS)]
    task = load_task(put(tmp_path, "mine.jsonl", rows))
    assert (len(task.train), len(task.test), task.test_split) == (36, 4, "dev")
    [note] = scoring_notes(task)
    assert "names no rows to be scored, so 4 of its 40 training rows are held out" in note
    with pytest.raises(DataError, match="no split 'test'; there are train"):
        load_task(str(tmp_path / "mine.jsonl"), test_split="test")


def test_the_rows_that_are_held_out_are_always_the_same(tmp_path):
    source = reviews(tmp_path) | {"split": {"dev": 0.2, "test": 0.1}}
    dev, test = load_task(source), load_task(source, test_split="test")
    assert [len(rows) for rows in (dev.train, dev.test, test.train, test.test)] == [28, 8, 28, 4]
    held_out = {row.text for row in dev.test}
    assert not held_out & {row.text for row in (*dev.train, *test.test)}
    other = load_task(
        reviews(tmp_path, "other.csv", TEXTS[::-1]) | {"split": {"dev": 0.2, "test": 0.1}}
    )
    assert {row.text for row in other.test} == held_out  # whatever their order is
    more = load_task(
        reviews(tmp_path, "more.csv", [*TEXTS, "a row that is new"]) | {"split": {"dev": 0.2}}
    )
    assert len(held_out & {row.text for row in more.test}) >= 7


def test_copies_of_a_text_are_held_out_together(tmp_path):
    texts = [text for text in TEXTS for text in (text, f"  {text.upper()}!")]
    task = load_task(reviews(tmp_path, texts=texts, stars=("5",)) | {"split": {"dev": 0.5}})
    assert len(task.test) == 40
    assert set(Counter(row.text.strip(" !").lower() for row in task.test).values()) == {2}


def test_the_last_training_row_of_a_label_is_never_held_out(tmp_path):
    rows = [{"text": text, "label": f"class {n // 2}"} for n, text in enumerate(TEXTS)]
    source = {"path": put(tmp_path, "mine.jsonl", rows), "split": {"dev": 0.9}}
    task = load_task(source)
    assert len(task.labels) == 20 and len(task.train) == len(task.test) == 20
    alone = [{"text": text, "label": text} for text in TEXTS]
    with pytest.raises(DataError, match=r"has 40 row\(s\), of which none is left for dev"):
        load_task(source | {"path": put(tmp_path, "alone.jsonl", alone)})


def test_tags_pairs_and_prompts_are_read_from_any_file(tmp_path):
    pairs = [{"a": text, "b": text[::-1], "label": "xy"[n % 2]} for n, text in enumerate(TEXTS)]
    source = {"path": put(tmp_path, "pairs.jsonl", pairs), "text": "a", "text_pair": "b"}
    assert load_task(source).train[0].text_pair is not None
    tagged = {
        "words": [["Anna", "lives"]] * 9 + [["so"]],
        "ner": [[1, 0]] * 9 + [[0]],
        "n": [0] * 10,
    }
    pq.write_table(pa.table(tagged), tmp_path / "ner.parquet")
    source = {"path": str(tmp_path / "ner.parquet"), "tokens": "words", "tags": "ner"}
    task = load_task(source | {"labels": ["O", "B-PER"]})
    assert (task.kind, task.tags) == (TaskKind.TAGGING, ("B-PER", "O"))
    assert task.test == [Example(words=("so",), tags=("O",))]
    prompts = [{"prompt": text, "references": ["yes"]} for text in TEXTS]
    location = put(tmp_path, "prompts.jsonl", prompts)
    assert is_generation_task(location) and load_task(location).kind is TaskKind.GENERATION


def test_a_folder_is_a_task_and_files_of_lines_of_json_come_first(tmp_path):
    reviews(tmp_path, "mine/train.csv")
    reviews(tmp_path, "mine/test.csv", ["another text", "and one more"])
    source = {"path": str(tmp_path / "mine"), "text": "body", "label": "stars"}
    task = load_task(source)
    assert (task.name, task.test_split, len(task.train), len(task.test)) == ("mine", "test", 40, 2)
    assert content_of_task(source) != content_of_task(reviews(tmp_path))
    with pytest.raises(DataError, match="has the fields id, body, stars; needed .*name their col"):
        load_task(str(tmp_path / "mine"))
    for split in ("train", "dev"):
        put(tmp_path, f"mine.{split}.jsonl", [{"text": split, "label": "x"}])
    assert load_task(str(tmp_path / "mine")).test[0].text == "dev"
    assert load_task(
        {"path": str(tmp_path / "mine.train.jsonl"), "split": {"dev": "mine.dev.jsonl"}}
    )


def test_a_published_name_is_scored_as_published(tmp_path):
    source = reviews(tmp_path, "mrpc.csv") | {"split": {"dev": 0.2}}
    named = load_task(source | {"labels": {5: "equivalent", 1: "different"}})
    assert (named.headline, named.positive) == ("f1", "equivalent")
    with pytest.raises(DataError, match="labels '1', '5', but .* F1 of 'equivalent'"):
        load_task(source)
    assert load_task(source | {"task_name": "other"}).headline == "accuracy"
    with pytest.raises(DataError, match="scored by f1 .* give another task_name"):
        load_task(source | {"problem_type": "regression"})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("text,label\n", "has no rows in its split 'train'"),
        ("", "has no rows in its split 'train'"),
        ("text,label\na,x\n ,y\n", "row 2 of .*a.csv .*: `text` is empty"),
        ("text,label\na,x\nb,\n", "row 2 of .*a.csv .*: `label` is empty; give a value"),
        ("text,stars\na,x\n", "row 1 of .*a.csv .* has the fields text, stars; needed are `text`"),
        ("tokens,tags\na b,O O\n", "row 1 of .*: `tokens` is 'a b'; give a list of strings"),
        ("text,label\na,x\na,y\na,x\na,y\n", r"has 4 row\(s\), of which none is left for"),
    ],
)
def test_rows_that_cannot_be_scored(tmp_path, rows, said):
    (tmp_path / "a.csv").write_text(rows)
    with pytest.raises(DataError, match=said):
        load_task({"path": str(tmp_path / "a.csv")})


def test_the_same_rows_are_not_both_learned_and_scored(tmp_path):
    source = reviews(tmp_path)
    with pytest.raises(
        DataError, match="all 40 scored rows are among the training rows .*row 1 of"
    ):
        load_task(source | {"split": {"dev": "reviews.csv"}})


def test_rows_without_labels(tmp_path):
    source = reviews(tmp_path)
    assert [row.text for row in load_rows({**source, "label": None})] == TEXTS
    assert load_rows(source)[0] == Example(TEXTS[0], label="5")
    assert len(load_rows(source | {"split": {"dev": 0.1}}, split="dev")) == 4
    (tmp_path / "more.txt").write_text("\n".join(TEXTS))
    assert load_rows(str(tmp_path / "more.txt")) == [Example(text) for text in TEXTS]
    mixed = [{"text": "a", "label": None}, {"text": "b", "text_pair": "c"}, {"tokens": ["a"]}]
    assert load_rows(put(tmp_path, "mixed.jsonl", mixed)) == [
        Example("a"),
        Example("b", "c"),
        Example(words=("a",)),
    ]
    put(tmp_path, "task.train.jsonl", mixed[:1])
    assert load_rows(str(tmp_path / "task")) == [Example("a")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": " "}, "line 2 of .*: `text` is empty"),
        ({"text": None}, "line 2 of .*: `text` is empty"),
        ({"text": 3}, "line 2 of .*: text 3 is not a string"),
        ({"text": "a", "text_pair": ""}, "line 2 of .*: `text_pair` is empty"),
        ({"body": "a"}, "line 2 of .* has the fields body; needed are `text`, `text` and"),
        ({"tokens": []}, "line 2 of .* has 0 tokens; give"),
        ({"tokens": ["a", " "]}, "line 2 of .*: token 2 is empty"),
        ({"tags": ["O"]}, "line 2 of .* has the fields tags; needed are `text`"),
        ({"prompt": "a", "references": ["b"]}, "line 2 of .* is a prompt with references"),
    ],
)
def test_rows_without_text_are_refused_with_their_place(tmp_path, row, said):
    with pytest.raises(DataError, match=said):
        load_rows(put(tmp_path, "a.jsonl", [{"text": "fine"}, row]))


def test_a_recipe_may_describe_its_tasks(tmp_path, raw_recipe):
    source = reviews(tmp_path) | {"split": {"dev": 0.2}}
    raw_recipe["evaluation"] = {"tasks": [source], "cost": False}
    setup, problems = check(raw_recipe)
    assert not problems and any("are read as classes" in said for said in setup.warnings)
    assert f"path: {source['path']}" in dump_recipe(setup.recipe)
    again = EvaluationPart.model_validate(setup.recipe.evaluation.model_dump(mode="json"))
    assert again == setup.recipe.evaluation
    raw_recipe["evaluation"] = {"tasks": [source | {"lable": "stars"}, source, source["path"]]}
    _, problems = parse_recipe(raw_recipe)
    assert ("evaluation.tasks.0" in dict(problems)) and "did you mean 'label'" in dict(problems)[
        "evaluation.tasks.0"
    ]
    raw_recipe["evaluation"] = {"tasks": [source | {"text": "bdoy"}], "cost": False}
    assert "the column 'bdoy'" in dict(check(raw_recipe)[1])["evaluation.tasks.0"]


def test_two_tasks_of_one_name_are_refused(tmp_path, raw_recipe):
    one, two = reviews(tmp_path), reviews(tmp_path, "more/reviews.csv")
    raw_recipe["evaluation"] = {"tasks": [one, two]}
    assert "are both called 'reviews'" in dict(parse_recipe(raw_recipe)[1])["evaluation.tasks"]
    part = parse_evaluation({"tasks": [one, {**two, "task_name": "more"}]})
    assert [name_of_task(task) for task in part.tasks] == ["reviews", "more"]


def test_a_model_is_scored_on_rows_of_a_table(tmp_path, raw_recipe):
    source = json.dumps(reviews(tmp_path) | {"task_name": "stars"})
    settings = FinetuneSettings(num_train_epochs=0.1, max_length=16, precision="float32")
    part = EvaluationPart(tasks=[source], seeds=1, finetuning=settings)
    console = Console(record=True, width=60)
    scores = evaluate_model(
        raw_recipe["teacher"], part.tasks, part, results=tmp_path / "kept", console=console
    )
    assert scores["stars"].test_rows == 4
    assert (tmp_path / "kept" / "stars.model.json").is_file()
    assert "4 of its 40 training rows are held out" in " ".join(console.export_text().split())


def test_the_example_of_the_page_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "guide" / "tasks.md").read_text(encoding="utf-8")
    [(code, printed)] = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/guide/tasks.md", "exec"), {})
    assert capsys.readouterr().out == printed
