"""Task files that look right and are not."""

import json

import pytest

from limbeck.errors import DataError
from limbeck.evaluation.tasks import load_task, subsample

TEXTS = [{"text": "ein Haus", "label": "b"}, {"text": "старый дом", "label": "a"}]


def put(folder, name, train, test=None) -> str:
    for split, rows in (("train", train), ("dev", test or train)):
        content = rows if isinstance(rows, bytes) else "\n".join(map(json.dumps, rows)).encode()
        (folder / f"{name}.{split}.jsonl").write_bytes(content)
    return str(folder / name)


def test_a_byte_order_mark_and_blank_lines_are_passed_over(tmp_path):
    plain = load_task(put(tmp_path, "mine", TEXTS))
    marked = b"\xef\xbb\xbf\n" + "\n\n".join(map(json.dumps, TEXTS)).encode()
    assert load_task(put(tmp_path, "mine", marked)) == plain


@pytest.mark.parametrize(
    ("train", "pattern"),
    [
        (b"\n \n", "train.jsonl is empty"),
        (b'{"text": "a", "label": "b"}\n{"text": \n', "line 2 of .* is not JSON"),
        ([{}], "has the fields none; needed"),
        ([{"text": "a", "text_pair": 3, "label": "b"}], "text_pair 3 is not a string"),
        (b'{"text": "a", "label": NaN}\n', "nan must be a finite number"),
        ([{"tokens": [], "tags": []}], "0 tokens and 0 tags"),
        ([{"tokens": "ab", "tags": ["O", "O"]}], "`tokens` is 'ab'; give a list of strings"),
        ([{"tokens": ["a"], "tags": [None]}], "`tags` is .None.; give a list of strings"),
        ([{"tokens": ["a"], "tags": ["O"], "label": 1}], "label 1 must be a string beside tags"),
        ([{"tokens": ["a"], "tags": ["PLACE"]}], "'PLACE' after 'O', which is not IOB2"),
        ([{"tokens": ["a", "b"], "tags": ["B-X", "I-Y"]}], "'I-Y' after 'B-X', which is not"),
    ],
)
def test_rows_that_could_not_be_scored_are_refused(tmp_path, train, pattern):
    with pytest.raises(DataError, match=pattern):
        load_task(put(tmp_path, "mine", train, TEXTS))


def test_a_known_name_on_rows_that_cannot_be_scored_so_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"of the kind tagging, but .* scored by accuracy"):
        load_task(put(tmp_path, "sst2", [{"tokens": ["a"], "tags": ["O"]}]))
    with pytest.raises(DataError, match=r"has the labels 'a', 'b', but .* F1 of 'equivalent'"):
        load_task(put(tmp_path, "mrpc", TEXTS))


def test_no_rows_is_no_subsample(tmp_path):
    with pytest.raises(DataError, match="0 training rows of mine"):
        subsample(load_task(put(tmp_path, "mine", TEXTS)), rows=0, seed=0)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"text": "a \\ud800", "label": "x"}', "line 1 of .* holds half a character"),
        ('{"text": ' + "[" * 100_000, "line 1 of .* is not JSON"),
    ],
)
def test_rows_that_no_tokenizer_takes(tmp_path, line, named):
    for split in ("train", "dev"):
        (tmp_path / f"toy.{split}.jsonl").write_text(line)
    with pytest.raises(DataError, match=named):
        load_task(str(tmp_path / "toy"))
