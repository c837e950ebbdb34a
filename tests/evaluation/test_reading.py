"""Rows of tasks as models read them: segments, empty texts, special tokens, whole numbers."""

import json
import math

import pytest
from conftest import make_model, make_text, make_tokenizer
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from limbeck.errors import DataError, EvaluationError
from limbeck.evaluation.examples import encode_example
from limbeck.evaluation.finetune import FinetuneSettings, finetune
from limbeck.evaluation.reading_notes import reading_notes
from limbeck.evaluation.scoring_notes import scoring_notes
from limbeck.evaluation.task_files import load_task
from limbeck.evaluation.tasks import Example, Task, TaskKind
from limbeck.recipe.check import check
from limbeck.recipe.schema import EvaluationPart
from limbeck.run.evaluate import evaluate_model

SETTINGS = FinetuneSettings(num_train_epochs=0.5, batch_size=2, max_length=16, precision="float32")


def put(folder, rows, name="mine") -> str:
    for split in ("train", "dev"):
        lines = "\n".join(map(json.dumps, rows))
        (folder / f"{name}.{split}.jsonl").write_text(lines, encoding="utf-8")
    return str(folder / name)


def pairs(count=4):
    texts = make_text(2 * count)
    return [
        {"text": texts[n], "text_pair": texts[-1 - n], "label": "ab"[n % 2]} for n in range(count)
    ]


def saved(folder, tokenizer, family="bert", **changes) -> str:
    model = make_model(family, vocabulary=len(tokenizer), layers=1)
    if changes:
        for name, value in changes.items():
            setattr(model.config, name, value)
        model = type(model)(model.config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def classes(rows) -> Task:
    return Task(
        "mine", TaskKind.CLASSIFICATION, "accuracy", None, rows, rows, "dev", ("a", "b"), ()
    )


@pytest.mark.parametrize(
    ("family", "changes", "segments"),
    [
        ("bert", {}, {0, 1}),
        ("bert", {"type_vocab_size": 1}, None),
        ("roberta", {"type_vocab_size": 1}, None),
        ("roberta", {"type_vocab_size": 2}, {0, 1}),
        ("distilbert", {}, None),
        ("gpt2", {}, None),
        ("modernbert", {}, None),
    ],
)
def test_pairs_have_segments_where_the_model_has_as_many(tmp_path, family, changes, segments):
    tokenizer = make_tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    task = load_task(put(tmp_path, pairs()))
    tuned = finetune(saved(tmp_path, tokenizer, family, **changes), task, settings=SETTINGS, seed=0)
    assert 0 <= tuned.score(task).metrics["accuracy"] <= 1
    row = encode_example(task.train[0], task, tokenizer, 99, segments=tuned.segments)
    assert set(row.tokens.get("token_type_ids", ())) == (segments or set())


def test_more_segments_than_the_model_has_are_none():
    tokenizer, example = make_tokenizer(), Example("the", "red", label="a")
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    for part in settings["post_processor"]["pair"]:
        for token in part.values():
            token["type_id"] *= 2
    backend = Tokenizer.from_str(json.dumps(settings))
    odd = PreTrainedTokenizerFast(tokenizer_object=backend, **tokenizer.special_tokens_map)
    found = encode_example(example, classes([]), odd, 9, segments=2).tokens["token_type_ids"]
    assert found == [0] * len(found)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "", "label": "a"}, "line 2 of .*mine.train.jsonl: `text` is empty"),
        ({"text": " \t\n", "label": 1.0}, "line 2 .*`text` is empty"),
        ({"text": "a", "text_pair": "", "label": "a"}, "line 2 .*`text_pair` is empty"),
        ({"tokens": [], "tags": []}, "line 2 .*at least one token"),
        ({"tokens": ["a", " "], "tags": ["O", "O"]}, "line 2 .*token 2 is empty"),
    ],
)
def test_an_empty_text_is_refused_with_its_row(tmp_path, row, said):
    first = {**row, **{name: "a" for name in ("text", "text_pair") if name in row}}
    first |= {"tokens": ["a"], "tags": ["O"]} if "tokens" in row else {}
    with pytest.raises(DataError, match=said):
        load_task(put(tmp_path, [first, row]))


def few_words() -> PreTrainedTokenizerFast:
    """Of a decoder without special tokens; other words have no token at all."""
    backend = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 2}, []))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize("kind", ["frame", "none"])
def test_a_text_without_any_token_is_learned_from_and_named(tmp_path, kind):
    tokenizer = make_tokenizer() if kind == "frame" else few_words()
    lost = "\x01" if kind == "frame" else "日本"
    rows = [{"text": lost, "label": "a"}, {"text": "a b c", "label": "b"}] * 2
    location, model = put(tmp_path, rows), saved(tmp_path, tokenizer, "gpt2")
    console = Console(record=True, width=300)
    part = EvaluationPart(tasks=[location], seeds=1, finetuning=SETTINGS)
    score = evaluate_model(model, [location], part, console=console)["mine"]
    assert math.isfinite(score.mean)
    said = console.export_text()
    assert "of 4 of 8 rows the tokenizer leaves a text" in said
    assert f"first line 1 of {location}.train.jsonl" in said
    assert "word" not in said and "tagged" not in said


def test_rows_of_which_no_word_has_a_token_leave_the_loss_finite(tmp_path):
    rows = [
        {"tokens": ["\x01"], "tags": ["B-X"]},
        {"tokens": ["the", "\x01"], "tags": ["O", "B-X"]},
    ]
    task = load_task(put(tmp_path, rows))
    tokenizer = make_tokenizer()
    settings = FinetuneSettings(
        num_train_epochs=2.0, batch_size=1, max_length=16, precision="float32"
    )
    tuned = finetune(saved(tmp_path, tokenizer), task, settings=settings, seed=0)
    assert math.isfinite(tuned.score(task).metrics["span_f1"])
    [note] = reading_notes(task, tokenizer, max_length=16)
    assert "of 4 of 4 rows the tokenizer leaves a word without any token" in note
    assert note.endswith("; such a word is tagged O")
    longest = max(len(encode_example(row, task, tokenizer, 99).word_of_token) for row in task.train)
    assert len(reading_notes(task, tokenizer, max_length=longest)) == 1
    _, note = reading_notes(task, tokenizer, max_length=longest - 1)
    assert f"rows have more than {longest - 1} tokens, first " in note


@pytest.mark.parametrize(("pair", "least"), [(False, 3), (True, 5)])
def test_no_room_for_a_token_of_every_text_is_refused(tmp_path, pair, least):
    rows = [{"text": "the house", "label": "a"}, {"text": "a garden", "label": "b"}]
    if pair:
        rows = [rows[0], {**rows[1], "text_pair": "the river"}]
    task, tokenizer = load_task(put(tmp_path, rows)), make_tokenizer()
    model = saved(tmp_path, tokenizer)
    for most in range(3, least):
        settings = FinetuneSettings(num_train_epochs=0.1, max_length=most, precision="float32")
        said = (
            f"is read {most} tokens at a time .max_length., of which 3 are special tokens.*give 5"
        )
        with pytest.raises(EvaluationError, match=said):
            finetune(model, task, settings=settings, seed=0)
    settings = FinetuneSettings(num_train_epochs=0.1, max_length=least, precision="float32")
    tuned = finetune(model, task, settings=settings, seed=0)
    found = encode_example(task.train[-1], task, tokenizer, least).tokens["input_ids"]
    special = set(tokenizer.all_special_ids)
    assert len([one for one in found if one not in special]) == 1 + pair
    assert 0 <= tuned.score(task).metrics["accuracy"] <= 1


def test_special_tokens_in_a_task_are_text_and_counted(tmp_path):
    tokenizer, text = make_tokenizer(), "[CLS] the [MASK] house [SEP] [PAD]"
    rows = [
        Example(text, "[SEP]", label="a"),
        Example(label="a", words=("[SEP]", "the"), tags=("O", "O")),
    ]
    task = Task("mine", TaskKind.JOINT, "accuracy", None, rows, [], "dev", ("a",), ("O",))
    found = encode_example(rows[0], task, tokenizer, 99).tokens["input_ids"]
    assert found.count(tokenizer.sep_token_id) == 2 and found.count(tokenizer.cls_token_id) == 1
    assert tokenizer.mask_token_id not in found and tokenizer.pad_token_id not in found
    tagged = encode_example(rows[1], task, tokenizer, 99)
    assert sorted(set(tagged.word_of_token)) == [-1, 0, 1]
    assert reading_notes(task, tokenizer, max_length=99)[0].startswith(
        "mine: 6 special tokens are spelled"
    )


def test_whole_numbers_are_said_to_be_no_classes(tmp_path, raw_recipe):
    rows = [{"text": text, "label": n % 3} for n, text in enumerate(make_text(6))]
    location = put(tmp_path, rows)
    said = (
        "mine: its labels are whole numbers (0, 1, 2), so it is scored as regression (spearman);"
        ' write them as strings ("0") to make them classes'
    )
    assert scoring_notes(load_task(location)) == [said]
    raw_recipe["evaluation"] = {"tasks": [location], "cost": False}
    setup, problems = check(raw_recipe)
    assert not problems and said in setup.warnings
    part = EvaluationPart(tasks=[location], seeds=1, finetuning=SETTINGS)
    console = Console(record=True, width=60)
    evaluate_model(raw_recipe["teacher"], [location], part, console=console)
    assert said in console.export_text()
    real = [{**row, "label": row["label"] + 0.5} for row in rows]
    assert scoring_notes(load_task(put(tmp_path, real))) == []
    strings = [{**row, "label": str(row["label"])} for row in rows]
    assert scoring_notes(load_task(put(tmp_path, strings))) == []


def test_special_tokens_in_the_text_of_a_recipe_are_said_before_anything_runs(tmp_path, raw_recipe):
    file = tmp_path / "text.txt"
    file.write_text("\n".join([*make_text(50), "the [MASK] house"]), encoding="utf-8")
    raw_recipe["data"] |= {"text": str(file)}
    setup, problems = check(raw_recipe)
    assert not problems
    assert any("1 special token is spelled in the text" in said for said in setup.warnings)
