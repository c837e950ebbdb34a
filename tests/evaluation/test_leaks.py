"""Scored rows among those that are learned from."""

import json

import pytest

from limbeck.errors import DataError
from limbeck.evaluation.leaks import check_leak, leak_notes, normalized, without_scored
from limbeck.evaluation.task_files import load_task
from limbeck.evaluation.tasks import Example
from limbeck.recipe.check import check

SCORED = [
    Example("A quiet, honest film.", label="good", place="line 1 of dev"),
    Example("two dogs run", "dogs are running", place="line 2 of dev"),
    Example(words=("Anna", "lives", "in", "Rome", "."), place="line 3 of dev"),
]


def same(one, other):
    return normalized(one) == normalized(other)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("It's  GOOD!", "it s good", True),
        ("Straße", "STRASSE", True),
        ("ﬁne", "fine", True),
        ("Ёлка — это…", "ёлка это", True),
        ("a\u00a0b\n", "a b", True),
        ("e\u0301", "\u00e9", True),
        ("\ufeffco\u00adop", "coop", True),
        ("\u202bשלום\u202c ❤\ufe0f", "שלום ❤", True),
        ("!", "?", False),
        (":-)", ":-(", False),
        ("not good", "good", False),
        ("C++", "C", False),
        ("ab", "a b", False),
    ],
)
def test_what_makes_two_texts_the_same(one, other, expected):
    assert same(one, other) == same(other, one) == expected
    assert normalized(normalized(one)) == normalized(one)


def test_rows_that_are_scored_are_dropped_and_counted():
    rows = [
        Example("a quiet honest film"),
        Example("A quiet, honest film", "a pair"),
        Example("Dogs are running!", "Two dogs run"),
        Example("two dogs run"),
        Example("two dogs run", "two dogs run"),
        Example("Anna lives in Rome."),
        Example("something else"),
    ]
    kept, dropped = without_scored(rows, SCORED)
    assert kept == [rows[number] for number in (1, 3, 4, 6)] and dropped == 3
    assert without_scored(rows, []) == (rows, 0)
    assert without_scored([], SCORED) == ([], 0)


def test_all_scored_rows_among_the_training_rows_are_an_error():
    train = [
        Example(row.text, row.text_pair, words=row.words, place="row 9 of x") for row in SCORED
    ]
    with pytest.raises(DataError, match=r"all 3 scored rows .*\(line 1 of dev as row 9 of x, "):
        check_leak([*train, Example("more")], SCORED)
    check_leak(train[:2], SCORED)
    check_leak([], SCORED)
    check_leak(train, [])


def test_a_few_duplicates_are_counted(tmp_path, raw_recipe):
    def located(split, texts):
        rows = [json.dumps({"text": text, "label": "x"}) for text in texts]
        (tmp_path / f"mine.{split}.jsonl").write_text("\n".join(rows))
        return str(tmp_path / "mine")

    located("train", ["one", "A quiet, honest film.", "a quiet honest film"])
    assert leak_notes(load_task(located("dev", ["two"]))) == []
    [note] = leak_notes(load_task(located("dev", ["two", "a quiet honest FILM"])))
    assert note == (
        "mine: of its 2 scored rows 1 is among its training rows too, by normalised text"
        f" (line 2 of {tmp_path}/mine.dev.jsonl as line 2 of {tmp_path}/mine.train.jsonl)"
    )
    raw_recipe["evaluation"] = {"tasks": [str(tmp_path / "mine")], "cost": False}
    assert note in check(raw_recipe)[0].warnings
