"""What fine-tuning must survive: long texts, byte-level tokens, wild settings, foreign files."""

from dataclasses import replace

import pytest
from conftest import FAMILIES, make_model, make_text, make_tokenizer

from limbeck.errors import EvaluationError
from limbeck.evaluation.finetune import FinetuneSettings, finetune
from limbeck.evaluation.seeds import evaluate_tasks
from limbeck.evaluation.tasks import Example, Task, TaskKind
from limbeck.tokenization.load import load_tokenizer

QUICK = FinetuneSettings(num_train_epochs=1.0, batch_size=8, precision="float32")


def classes(repeat: int = 1) -> Task:
    rows = [
        Example(text=f"{line} " * repeat, label="ab"[number % 2])
        for number, line in enumerate(make_text(16))
    ]
    kind = TaskKind.CLASSIFICATION
    return Task("texts", kind, "accuracy", None, rows, rows, "dev", ("a", "b"), ())


def tagged(repeat: int = 1) -> Task:
    rows = []
    for line in make_text(16):
        words = tuple(line.rstrip(".").split()) * repeat
        tags = tuple("B-X" if word == "garden" else "O" for word in words)
        rows.append(Example(words=words, tags=tags))
    return Task("words", TaskKind.TAGGING, "span_f1", None, rows, rows, "dev", (), ("B-X", "O"))


def save(folder, family: str = "bert", tokenizer: str = "wordpiece") -> str:
    tokens = make_tokenizer(tokenizer)
    make_model(family, vocabulary=len(tokens)).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", [classes(20), tagged(20)], ids=["classes", "tags"])
def test_texts_beyond_the_positions_are_truncated(tmp_path, family, task):
    place = save(tmp_path, family, "byte_bpe")
    score = finetune(place, task, settings=QUICK, seed=0).score(task)
    assert 0 <= score.metrics[task.headline] <= 1


@pytest.mark.parametrize("tokenizer", ["wordpiece", "byte_bpe", "unigram"])
def test_words_are_split_into_the_tokens_of_the_text_they_make(tmp_path, monkeypatch, tokenizer):
    # Byte-level tokens carry the space before a word; read one by one, words would run together.
    seen = []

    def keep(network, rows, *rest, **options):
        seen.extend(rows)
        raise EvaluationError("enough")

    monkeypatch.setattr("limbeck.evaluation.finetune.learn", keep)
    place, task = save(tmp_path, tokenizer=tokenizer), tagged()
    tokens = load_tokenizer(place)
    settings = replace(QUICK, max_length=10_000)
    with pytest.raises(EvaluationError, match="enough"):
        finetune(place, task, settings=settings, seed=0)
    whole = 0
    for row, given in zip(seen, task.train, strict=True):
        expected = tokens(" ".join(given.words), truncation=True, max_length=80)
        assert row.tokens["input_ids"] == expected["input_ids"]
        words = [word for word in row.word_of_token if word >= 0]
        assert words == list(range(len(words)))
        assert [task.tags[tag] for tag in row.tags if tag >= 0] == list(given.tags[: len(words)])
        whole += len(words) == len(given.words)
    assert whole


@pytest.mark.parametrize("content", ["", "{", "[]", "[1]"])
def test_a_file_that_is_no_results_is_left_alone(model, tmp_path, content):
    results = tmp_path / "results.json"
    results.write_text(content, encoding="utf-8")
    with pytest.raises(EvaluationError, match="is not a file of results"):
        evaluate_tasks(model, [classes()], settings=QUICK, seeds=[0], results={"texts": results})
    assert results.read_text(encoding="utf-8") == content


def test_predictions_that_are_not_finite_are_no_score(model):
    one_step = replace(QUICK, learning_rate=1e30, batch_size=16)
    with pytest.raises(EvaluationError, match="prediction for texts is not finite"):
        finetune(model, classes(), settings=one_step, seed=9).score(classes())


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"batch_size": 0}, "batch_size is 0; give 1 or more"),
        ({"max_length": 2}, "max_length is 2; give 3 or more"),
        ({"num_train_epochs": 0.0}, "num_train_epochs is 0; give more than 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1; give more than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(model, change, pattern):
    with pytest.raises(EvaluationError, match=pattern):
        finetune(model, classes(), settings=replace(QUICK, **change), seed=0)


def test_a_task_without_rows_is_refused(model):
    with pytest.raises(EvaluationError, match="texts has 0 training rows and 16 test rows"):
        finetune(model, replace(classes(), train=[]), settings=QUICK, seed=0)


def test_a_task_with_other_labels_cannot_be_scored(model):
    tuned = finetune(model, classes(), settings=QUICK, seed=0)
    with pytest.raises(
        EvaluationError, match="other cannot be scored by a model that has learned texts"
    ):
        tuned.score(replace(classes(), name="other", labels=("a", "z")))
