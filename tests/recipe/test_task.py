"""What is wrong with a recipe of a task is said before a weight is loaded, with its field."""

import json
import math
import re
from pathlib import Path

import pytest
from conftest import HEADS, LABELS, make_text
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from limbeck.errors import DataError, LimbeckError
from limbeck.evaluation.task_files import load_rows, load_task
from limbeck.models.load import load_config
from limbeck.models.task_heads import TaskHead, head_of, label_problem
from limbeck.recipe.check import check, prepare
from limbeck.recipe.schema import DataPart
from limbeck.recipe.task_rows import rows_of
from limbeck.run.task_answers import task_side
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


def test_a_task_that_is_learned_is_not_scored_twice_under_one_name(task_recipe, task_files):
    raw = task_recipe("labels")
    raw["evaluation"] = {**raw["evaluation"], "tasks": [str(task_files / "labels")]}
    said = problems(raw)
    assert said.keys() == {"evaluation.tasks.0"} and "'labels'" in said["evaluation.tasks.0"]
    raw["evaluation"] = {**raw["evaluation"], "tasks": [f"{task_files}/labels>labels"]}
    assert "names one task" in problems(raw)["evaluation.tasks.0"]
    other = {"path": str(task_files / "labels"), "task_name": "again"}
    raw["evaluation"] = {**raw["evaluation"], "tasks": [other]}
    assert problems(raw) == {}


@pytest.mark.parametrize("padding", [None, 0])
def test_a_decoder_finds_the_end_of_a_text_by_the_padding_of_its_tokenizer(
    task_recipe, tmp_path, padding
):
    """Else its head would learn from whatever stands at the end of the longest text."""
    raw = task_recipe("labels", family="gpt2")
    folder = Path(raw["teacher"])
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert written["pad_token_id"] not in (None, 0)
    (folder / "config.json").write_text(json.dumps({**written, "pad_token_id": padding}))
    raw |= {"teacher": None, "student": str(folder)}
    raw["stages"][0]["objectives"] = {"class_labels": {}}
    said = problems(raw)
    assert said.keys() == {"student.model"}
    assert f"set pad_token_id to {written['pad_token_id']}" in said["student.model"]


@pytest.mark.parametrize(
    ("task", "problem_type", "said"),
    [
        ("labels", "multi_label_classification", "give the labels of such rows as lists"),
        ("several", "single_label_classification", "(problem_type: multi_label_classification)"),
    ],
)
def test_rows_of_one_label_and_of_several_need_different_heads(
    task, problem_type, said, task_recipe
):
    raw = task_recipe(task)
    change_config(raw["teacher"], {"problem_type": problem_type})
    assert said in problems(raw)["teacher.model"]
    gold = {**raw, "teacher": None, "student": {"model": raw["teacher"]}}
    gold["stages"] = [{"preset": "fine-tuning", "max_steps": 2}]
    assert "the student gets a new one with random weights" in " ".join(prepare(gold).warnings)


@pytest.mark.parametrize("task", ["labels", "several", "tags"])
def test_rows_of_one_label_are_no_rows_of_numbers(task, task_recipe, tmp_path):
    texts = make_text(40)
    row = {
        "labels": lambda text: {"text": text, "label": LABELS[0]},
        "several": lambda text: {"text": text, "label": [LABELS[0]]},
        "tags": lambda text: {"tokens": text.split(), "tags": ["O"] * len(text.split())},
    }[task]
    lines = "\n".join(json.dumps(row(text)) for text in texts)
    for split in ("train", "dev"):
        (tmp_path / f"one.{split}.jsonl").write_text(lines, encoding="utf-8")
    raw = task_recipe(task)
    raw["data"] = {**raw["data"], "task": str(tmp_path / "one")}
    said = problems(raw)
    assert "teacher.model" not in said
    assert ("has one label alone" in said.get("data.task", "")) == (task == "labels")


def test_rows_without_any_label_teach_none(task_recipe, tmp_path):
    rows = "\n".join(json.dumps({"text": text, "label": []}) for text in make_text(40))
    for split in ("train", "dev"):
        (tmp_path / f"empty.{split}.jsonl").write_text(rows, encoding="utf-8")
    raw = task_recipe("several")
    raw["data"] = {"task": str(tmp_path / "empty"), "max_length": 24}
    raw |= {"teacher": None, "student": raw["teacher"]}
    raw["stages"][0]["objectives"] = {"class_labels": {}}
    assert "has no label in any row" in problems(raw)["data.task"]


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
    rows = [{"text": text, "label": "no class of it"} for text in make_text(30, seed=8)]
    setup = prepare(with_rows(task_recipe("labels"), tmp_path, rows))
    assert any("30 rows of `data.rows` have labels" in said for said in setup.warnings)
    known = {row.label for row in [*setup.rows.train, *setup.rows.held_out]}
    assert known == {*LABELS, None}


def test_a_stage_that_learns_labels_alone_reads_the_rows_that_have_them(task_recipe, tmp_path):
    rows = [{"text": text} for text in make_text(300, seed=8)]
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
    rows = [{"text": text} for text in make_text(30, seed=8)]
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


def written(file, rows) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def test_a_classifier_reads_the_text_of_rows_that_have_words_too(task_recipe, tmp_path):
    texts = make_text(200, seed=6)
    joint = [
        {"text": f"{text}!", "label": LABELS[n % 3], "tokens": text.split()}
        for n, text in enumerate(texts)
    ]
    joint = [{**row, "tags": ["O"] * len(row["tokens"])} for row in joint]
    written(tmp_path / "j.train.jsonl", joint[:120])
    written(tmp_path / "j.dev.jsonl", joint[120:150])
    rows = [{name: row[name] for name in ("text", "tokens")} for row in joint[150:]]
    more = written(tmp_path / "more.jsonl", rows)
    data = DataPart(task=str(tmp_path / "j"), rows=[more])
    for predict, split in (("label", "dev"), ("tags", "dev")):
        found = rows_of(data, predict=predict, split=split)
        every = [*found.train, *found.held_out, *found.scored.test]
        assert all((row.words is None) == (predict == "label") for row in every)
        if predict == "label":
            assert {row.text for row in every} == {row["text"] for row in joint}
    raw = {**task_recipe("labels"), "data": {"rows": [more], "max_length": 24}}
    assert all(row.words is None for row in prepare(raw).rows.train)


def test_rows_that_other_tasks_score_are_not_learned(task_recipe, task_files, tmp_path):
    scored = (task_files / "tags.dev.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [" ".join(json.loads(row)["tokens"]).title() for row in scored]
    rows = [{"text": text} for text in [*dict.fromkeys(texts), *make_text(30, seed=8)]]
    raw = with_rows(task_recipe("scores"), tmp_path, rows)
    raw["data"]["task"] = str(task_files / "scores")
    other = {**raw, "evaluation": {"tasks": [str(task_files / "tags")], "cost": False}}
    del other["data"]["task"]
    known = {text.casefold() for text in texts}
    setup = prepare(other)
    assert not known & {row.text.casefold() for row in (*setup.rows.train, *setup.rows.held_out)}
    dropped = len(set(texts))
    assert any(f"{dropped} rows without labels are left out" in said for said in setup.warnings)


def test_rows_without_labels_that_are_there_twice_are_counted(task_recipe, task_files, tmp_path):
    line = (task_files / "scores.train.jsonl").read_text(encoding="utf-8").splitlines()[0]
    known = {name: text for name, text in json.loads(line).items() if name != "label"}
    rows = [{"text": text} for text in make_text(30, seed=8)]
    raw = with_rows(task_recipe("scores"), tmp_path, rows)
    raw["data"]["task"] = str(task_files / "scores")
    assert not any("more than once" in said for said in prepare(raw).warnings)
    raw["data"]["rows"] = [written(tmp_path / "twice.jsonl", [*rows, *rows[:3], rows[0], known])]
    setup = prepare(raw)
    assert setup.rows.repeated == 5
    told = "5 rows of `data.rows` are there more than once, or are rows of `data.task` too"
    assert any(told in said for said in setup.warnings)


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a b", "label": math.nan},
        {"text": "a b", "label": True},
        {"text": "a b", "label": ["x", "y"]},
        {"text": "a b", "tags": "news"},
        {"tokens": ["a", "b"], "tags": ["B-X", "E-X"]},
        {"tokens": ["a", "b"], "tags": [1, 0]},
        {"tokens": ["a", "b"], "tags": ["O"], "label": 3},
    ],
)
def test_labels_that_are_not_read_are_not_refused(tmp_path, row):
    [found] = load_rows(written(tmp_path / "more.jsonl", [row]))
    assert (found.label is not None or found.tags is not None) == (row.get("label") is not math.nan)
    assert (found.text or " ".join(found.words)) == "a b"


def test_each_source_of_rows_is_looked_at(task_recipe, tokenizer, tmp_path):
    """Behind many labelled rows, too; a problem names the source that has it."""
    fine = [{"text": text} for text in make_text(30, seed=8)]
    raw = with_rows(task_recipe("labels"), tmp_path, fine)
    raw["data"]["rows"] = [
        *raw["data"]["rows"],
        written(tmp_path / "b.jsonl", [{"text": "一二"}] * 9),
    ]
    found = problems(raw)
    assert "b.jsonl into unknown" in found["student.tokenizer"]
    raw["data"]["rows"][1] = written(tmp_path / "c.jsonl", [{"text": "\x01"}, {"text": "\x02"}])
    assert "no letter" in problems(raw)["data.rows.1"]
    raw["data"]["rows"][1] = str(tmp_path / "nothing.jsonl")
    assert list(problems(raw)) == ["data.rows.1"]
    long = [{"text": " ".join([text] * 9)} for text in make_text(300, seed=9)]
    raw["data"]["rows"] = [raw["data"]["rows"][0], written(tmp_path / "d.jsonl", [*fine, *long])]
    warned = [said for said in prepare(raw).warnings if "more than 24 tokens" in said]
    looked_at = [row["text"] for row in [*fine, *long][:200]]
    count = sum(len(tokenizer(text).input_ids) > 24 for text in looked_at)
    name = f"data.rows.1 ({tmp_path / 'd.jsonl'}, first 200 rows)"
    assert warned[-1].startswith(f"{name}: {count} of 200 rows have more") and count >= 170


def test_a_teacher_that_reads_less_of_rows(task_recipe):
    raw = task_recipe("labels")
    folder = Path(raw["teacher"])
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.config.max_position_embeddings = 9
    type(model)(model.config).save_pretrained(folder)
    raw["student"] |= {"max_position_embeddings": 24}
    said = " ".join(prepare(raw).warnings)
    assert "in the tokens of the teacher: " in said and "the teacher reads no more" in said
    assert "have more than 9 tokens" in said


def test_words_without_tokens_are_said(task_recipe, tmp_path):
    rows = [{"text": f"{text} \ufffd"} for text in make_text(30, seed=8)]
    said = " ".join(prepare(with_rows(task_recipe("tags"), tmp_path, rows)).warnings)
    assert "rows the tokenizer leaves a word without any token" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"problem_type": "regression"}, "gives 3 numbers for a text"),
        ({"id2label": {0: "a", 1: "a", 2: "b"}}, "config.json (id2label and label2id)"),
    ],
)
def test_heads_that_say_several_things_of_a_text(task_recipe, task_files, change, said):
    raw = task_recipe("labels")
    change_config(raw["teacher"], change)
    assert said in problems(raw)["teacher.model"]
    with pytest.raises(LimbeckError, match=re.escape(said)):
        task_side(raw["teacher"])
    if "problem_type" in change:
        gold = {**raw, "teacher": None, "student": {"model": raw["teacher"]}}
        gold["stages"] = [{"preset": "fine-tuning", "max_steps": 2}]
        warned = " ".join(prepare(gold).warnings)
        assert change["problem_type"] in warned and "random weights" in warned


def change_config(folder, change):
    file = Path(folder) / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, **change}), encoding="utf-8")


def test_numbers_that_are_classes_have_two_ways_out(task_recipe, tmp_path):
    raw = task_recipe("labels")
    rows = [{"text": text, "label": n % 3} for n, text in enumerate(make_text(90, seed=2))]
    for split, some in (("train", rows[:60]), ("dev", rows[60:])):
        written(tmp_path / f"n.{split}.jsonl", some)
    raw["data"]["task"] = str(tmp_path / "n")
    said = problems(raw)["teacher.model"]
    assert "problem_type: classification" in said and f"{{0: {LABELS[0]}" in said
    names = dict(enumerate(LABELS))
    raw["data"]["task"] = {"path": str(tmp_path / "n"), "labels": names}
    assert not problems(raw)
    raw["data"]["task"] = {"path": str(tmp_path / "n"), "problem_type": "classification"}
    raw["teacher"] = {"model": raw["teacher"], "labels": {name: n for n, name in names.items()}}
    assert not problems(raw)
    raw["teacher"]["labels"] = {LABELS[0]: True}
    assert "in quotes" in problems(raw)["teacher.labels"]
    mixed = [{**row, "label": str(row["label"])} if n % 2 else row for n, row in enumerate(rows)]
    with pytest.raises(DataError, match="mixes kinds .*problem_type: classification"):
        load_task(written(tmp_path / "m.jsonl", mixed))


def test_unknown_words_of_known_letters_are_named(task_recipe, tmp_path):
    special = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
    known = {token: number for number, token in enumerate((*special, "a", "b"))}
    backend = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    named = dict(zip(("unk", "pad", "cls", "sep", "mask"), special, strict=True))
    reader = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{name}_token": token for name, token in named.items()}
    )
    reader.save_pretrained(tmp_path / "reader")
    raw = task_recipe("labels")
    raw["student"] |= {"tokenizer": str(tmp_path / "reader"), "init_from_teacher": None}
    rows = [{"text": f"{'a ' * n}ab"} for n in range(1, 9)]
    raw["data"] = {"rows": [written(tmp_path / "more.jsonl", rows)], "max_length": 24}
    said = problems(raw)["student.tokenizer"]
    assert "(as ab, whose letters are known, but not as parts)" in said
    # One token of about 34, and 10 letters of 44.
    few = [{"text": "a " * n + "a" * 10} for n in range(30, 38)]
    raw["data"] = {"rows": [written(tmp_path / "few.jsonl", few)], "max_length": 24}
    said = problems(raw)["student.tokenizer"]
    assert re.match(r"turns 2\d.\d% of the letters of ", said) and "(as aaaaaaaaaa, whose" in said
