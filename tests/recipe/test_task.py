"""What is wrong with a recipe of a task is said before a weight is loaded, with its field."""

import json
from pathlib import Path

import pytest
from conftest import HEADS, LABELS

from limbeck.models.load import load_config
from limbeck.models.task_heads import TaskHead, head_of, label_problem
from limbeck.recipe.check import check, prepare
from limbeck.recipe.schema import DataPart
from limbeck.recipe.task_rows import rows_of
from limbeck.run.task_batches import task_batches


def problems(raw) -> dict[str, str]:
    _, found = check(raw)
    return dict(found)


def test_labels_that_teacher_and_task_do_not_share(task_recipe):
    found = problems(task_recipe("labels", labels=("statement", "question", "rumour")))
    message = found["teacher.labels"]
    assert "'order'" in message and "'rumour'" in message and "by name" in message


def test_scored_rows_that_are_learned_are_counted_once(task_recipe, task_files, tmp_path):
    raw = task_recipe("labels")
    rows = {
        split: (task_files / f"labels.{split}.jsonl").read_text(encoding="utf-8").splitlines()
        for split in ("train", "dev")
    }
    scored = json.loads(rows["dev"][0])
    copy = {**scored, "text": f" {scored['text'].upper()}!"}
    other = [row for row in rows["train"] if json.loads(row)["text"] != scored["text"]]
    for split, lines in {"train": [*other, json.dumps(copy)], "dev": rows["dev"][:1]}.items():
        text = "".join(f"{line}\n" for line in lines)
        (tmp_path / f"mine.{split}.jsonl").write_text(text, encoding="utf-8")
    task = str(tmp_path / "mine")
    raw |= {"data": {**raw["data"], "task": task}}
    raw["evaluation"] = {**raw["evaluation"], "tasks": [task]}
    with (tmp_path / "mine.dev.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**scored, "text": "nothing like it"}) + "\n")
    [said] = [said for said in prepare(raw).warnings if "scored rows" in said]
    assert "of its 2 scored rows 1 is among its training rows too" in said


def test_a_task_that_cannot_be_read_is_the_only_problem(task_recipe, tmp_path):
    raw = task_recipe("labels")
    raw["data"] = {**raw["data"], "task": str(tmp_path / "nothing")}
    raw["evaluation"] = {**raw["evaluation"], "tasks": []}
    assert list(problems(raw)) == ["data.task"]


@pytest.mark.parametrize(("task", "other"), [("labels", "tags"), ("tags", "labels")])
def test_a_head_of_another_kind(task_recipe, task_files, task, other):
    raw = task_recipe(task)
    raw["data"] = {**raw["data"], "task": str(task_files / other)}
    message = " ".join(problems(raw).values())
    assert "alone, so no" in message or "has a" in message


def test_a_teacher_that_gives_a_number_for_a_task_of_classes(task_recipe, task_files):
    raw = task_recipe("scores")
    raw["data"] = {**raw["data"], "task": str(task_files / "labels")}
    assert "gives a number" in problems(raw)["teacher.model"]


def test_a_teacher_without_a_head(task_recipe, teacher_folder):
    raw = {**task_recipe("labels"), "teacher": str(teacher_folder)}
    assert "limbeck finetune" in problems(raw)["stages.0.objectives.class_logits"]


def test_several_classes_for_a_text_are_not_learned(task_recipe):
    raw = task_recipe("labels")
    file = Path(raw["teacher"]) / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    multi = {**config, "problem_type": "multi_label_classification"}
    file.write_text(json.dumps(multi), encoding="utf-8")
    assert "do not exclude one another" in problems(raw)["teacher.model"]


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"alignment": "match"}, "stages.0.alignment", "leave it out"),
        ({"masking": {}}, "stages.0.masking", "leave it out"),
        ({"tokens": 1000, "max_steps": None}, "stages.0.tokens", "num_train_epochs"),
        ({"num_train_epochs": 1}, "stages.0", "give one of"),
        ({"objectives": {"labels": {}}}, "stages.0.objectives.labels", "vocabulary head"),
        ({"objectives": {"logits": {}}}, "stages.0.objectives.logits", "vocabulary head"),
    ],
)
def test_what_has_no_place_in_a_stage_of_rows(task_recipe, change, field, said):
    raw = task_recipe("labels")
    raw["stages"] = [{**raw["stages"][0], **change}]
    assert said in problems(raw)[field]


def test_epochs_are_of_rows(raw_recipe):
    raw_recipe["stages"] = [{"preset": "minilmv2", "num_train_epochs": 1}]
    assert "rows of a task" in problems(raw_recipe)["stages.0.num_train_epochs"]


def test_objectives_of_classes_need_rows(raw_recipe):
    raw_recipe["stages"] = [{"preset": "classifier", "max_steps": 2}]
    assert "data.task" in problems(raw_recipe)["stages.0.objectives.class_labels"]


def test_names_of_labels_that_are_not_there(task_recipe, raw_recipe):
    raw = task_recipe("labels")
    raw["teacher"] = {"model": raw["teacher"], "labels": {"LABEL_0": "statement"}}
    assert "'LABEL_0' is no label" in problems(raw)["teacher.labels"]
    raw["teacher"]["labels"] = {"order": "question"}
    assert "a name of its own" in problems(raw)["teacher.labels"]
    raw_recipe["teacher"] = {"model": raw_recipe["teacher"], "labels": {"a": "b"}}
    assert "data.task" in problems(raw_recipe)["teacher.labels"]


def test_rows_that_are_not_there_or_have_no_labels(task_recipe, task_files):
    raw = task_recipe("labels")
    raw["data"] = {**raw["data"], "task": str(task_files / "nothing")}
    assert "nothing" in problems(raw)["data.task"]
    gold = {**raw, "teacher": None, "data": {"rows": str(task_files / "plain")}}
    gold["student"] = {**raw["student"], "model_type": "bert", "tokenizer": raw["teacher"]}
    gold["stages"] = [{"preset": "fine-tuning", "max_steps": 2}]
    assert "data.task" in problems(gold)["stages.0.objectives.class_labels"]


def test_a_length_in_epochs(task_recipe):
    raw = task_recipe("labels")
    raw["stages"] = [{"preset": "classifier", "num_train_epochs": 2, "batch_size": 10}]
    setup = prepare(raw)
    assert setup.stages[0].steps == round(2 * len(setup.rows.train) / 10)
    assert not {row.text for row in setup.rows.train} & {row.text for row in setup.rows.held_out}


def test_the_head_of_a_configuration(task_recipe):
    for task, head in HEADS.items():
        assert head_of(load_config(task_recipe(task)["teacher"])) == head
    assert TaskHead("sequence", ("LABEL_0", "LABEL_1")).named is False
    assert label_problem(LABELS[:2], LABELS, "the teacher") is None


@pytest.mark.parametrize("alone", [False, True])
def test_a_tagger_learns_from_texts_as_words(task_recipe, task_files, tmp_path, alone):
    raw = task_recipe("tags")
    scored = json.loads((task_files / "tags.dev.jsonl").read_text(encoding="utf-8").split("\n")[0])
    rows = [
        {"text": "It's nearly 9:30, Jean-Paul!"},
        {"text": "first of a pair", "text_pair": "second (of it)"},
        {"text": " ".join(scored["tokens"]).upper() + "."},
        {"text": "words beside words"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "texts.jsonl").write_text(lines, encoding="utf-8")
    raw["data"] |= {"rows": [str(tmp_path / "texts.jsonl")]}
    if alone:
        del raw["data"]["task"]
    found = rows_of(DataPart(**raw["data"]), predict="tags", split=None)
    words = [row.words for row in [*found.train, *found.held_out] if row.tags is None]
    expected = [
        ("It's", "nearly", "9", ":", "30", ",", "Jean-Paul", "!"),
        ("first", "of", "a", "pair"),
        ("second", "(", "of", "it", ")"),
        ("words", "beside", "words"),
    ]
    assert sorted(words, key=len)[:3] == sorted(expected, key=len)[:3]
    assert set(expected) <= set(words)
    assert len(words) == len(expected) + alone
    assert found.dropped == (0 if alone else 1)


def with_rows(raw, folder, rows):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "more.jsonl").write_text(lines, encoding="utf-8")
    return {**raw, "data": {**raw["data"], "rows": [str(folder / "more.jsonl")]}}


def test_labels_of_rows_that_the_teacher_labels_are_not_read(task_recipe, tmp_path):
    rows = [{"text": f"some words {n}", "label": "no class of it"} for n in range(30)]
    setup = prepare(with_rows(task_recipe("labels"), tmp_path, rows))
    assert any("30 rows of `data.rows` have labels" in said for said in setup.warnings)
    known = {row.label for row in [*setup.rows.train, *setup.rows.held_out]}
    assert known == {*LABELS, None}


def test_a_stage_that_learns_labels_alone_reads_the_rows_that_have_them(task_recipe, tmp_path):
    rows = [{"text": f"some words {n}"} for n in range(300)]
    raw = with_rows(task_recipe("labels"), tmp_path, rows)
    epoch = {"num_train_epochs": 1, "batch_size": 10}
    raw["stages"] = [
        {"objectives": {"class_logits": {}}, **epoch},
        {"objectives": {"class_labels": {}}, **epoch},
        {"objectives": {"class_labels": {"labels_from": "teacher"}}, **epoch},
    ]
    setup = prepare(raw)
    labelled = [row for row in setup.rows.train if row.label is not None]
    assert 0 < len(labelled) < 201 < len(setup.rows.train)
    steps = [stage.steps for stage in setup.stages]
    assert steps == [
        round(len(some) / 10) for some in (setup.rows.train, labelled, setup.rows.train)
    ]
    batches = task_batches(setup, held_out=False, size=10, stage=setup.stages[1])
    assert list(batches.table) == labelled
    of_labels = task_batches(setup, held_out=True, size=10, stage=setup.stages[1])
    assert of_labels.table and all(row.label is not None for row in of_labels.table)
    del raw["data"]["task"]
    raw["stages"] = raw["stages"][1:2]
    assert "0 are left to learn from" in problems(raw)["stages.0.objectives"]


def test_a_task_of_one_class(task_recipe, teacher_folder, tmp_path):
    for split in ("train", "dev"):
        rows = [json.dumps({"text": f"words {split} {n}", "label": "spam"}) for n in range(40)]
        (tmp_path / f"one.{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    raw = task_recipe("labels")
    raw["data"] = {**raw["data"], "task": str(tmp_path / "one")}
    del raw["teacher"]
    raw["stages"] = [{"preset": "fine-tuning", "max_steps": 2}]
    raw["student"] = {"model": str(teacher_folder)}
    assert "has one label alone, 'spam'" in " ".join(problems(raw).values())


def test_notes_on_rows_that_are_not_read_whole_or_are_of_two_forms(task_recipe, tmp_path):
    raw = task_recipe("pairs")
    rows = [{"text": f"words without a second text {n}"} for n in range(30)]
    warned = " ".join(prepare(with_rows(raw, tmp_path, rows)).warnings)
    assert "rows are pairs of texts, and the others single texts" in warned
    raw["data"] = {**raw["data"], "max_length": 8}
    assert "rows have more than 8 tokens" in " ".join(prepare(raw).warnings)


def test_vectors_are_learned_from_rows_without_a_task(task_recipe, teacher_folder):
    raw = task_recipe("pairs")
    raw["teacher"] = str(teacher_folder)
    raw["stages"] = [{"objectives": {"sentence_vectors": {}}, "max_steps": 2}]
    assert "give the texts as `data.rows`" in problems(raw)["data.task"]


def test_a_task_that_is_not_there_is_one_problem(task_recipe, tmp_path):
    raw = task_recipe("labels")
    raw["data"] = {**raw["data"], "task": str(tmp_path / "nothing")}
    raw["evaluation"] = {**raw["evaluation"], "tasks": []}
    raw["stages"] = [{"preset": "fine-tuning", "num_train_epochs": 1}]
    assert list(problems(raw)) == ["data.task"]
