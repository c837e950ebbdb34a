"""Task files that look right and are not."""

import json
import re

import pytest

from limbeck.errors import DataError, ModelError
from limbeck.evaluation.scoring_notes import scoring_notes
from limbeck.evaluation.task_files import load_task
from limbeck.evaluation.tasks import subsample
from limbeck.models.task_heads import TaskHead, label_problem

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
        ([{"text": "a", "label": {"b": 1}}], "neither a string nor a number, nor a list"),
        ([{"text": "a", "label": ["b", ""]}], "one of the labels .* is empty"),
        ([{"text": "a", "label": ["b", "c", "b"]}], "names 'b' twice"),
        ([{"text": "a", "label": [0.0, 1.0]}], "is no list of labels; give the names"),
        ([{"text": "a", "label": [0, 1, 0]}], "names '0' twice; .* column of 0 and 1"),
        ([{"text": "a", "label": ["b"]}], "mixes kinds .* write every label as a list"),
        ([{"tokens": ["a"], "tags": ["O"], "label": ["b"]}], "must be a string beside tags"),
        ([{"tokens": [], "tags": []}], "has 0 tokens; give at least one"),
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


WRONG = [5, 1.5, True, [], ["q"], {"a": 1}, [1], "", " ", 10**400, -(10**400), float("inf")]
ROWS = {
    "text": {"text": "a", "label": "b"},
    "pair": {"text": "a", "text_pair": "c", "label": "b"},
    "number": {"text": "a", "label": 1.5},
    "tags": {"tokens": ["a", "b"], "tags": ["O", "B-X"]},
    "joint": {"tokens": ["a"], "tags": ["O"], "label": "b", "text": "a"},
    "answers": {"prompt": "a", "references": ["b"], "document": "c"},
}
FIELDS = ("text", "text_pair", "label", "tokens", "tags", "prompt", "references", "document")


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("field", [*FIELDS, "meeting"])
def test_every_field_of_a_wrong_kind_is_refused_or_harmless(tmp_path, name, field):
    """No traceback, and every error names the file and the row."""
    row, errors = ROWS[name], []
    for value in [*WRONG, None]:
        location = put(tmp_path, "mine", [row, {**row, field: value}], [row])
        try:
            found = load_task(location).train[1]
        except DataError as error:
            errors.append(str(error))
        else:
            assert all(isinstance(one, str | None) for one in (found.text, found.text_pair))
            assert isinstance(found.label, str | float | None)
    of_files = ("mixes kinds of rows", "neither ")  # no documents are there
    for error in errors:
        assert f"line 2 of {location}.train.jsonl" in error or any(s in error for s in of_files)
        assert len(error) < 600


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": ["a"], "tags": ["O"], "text": 5}, "text 5 is not a string"),
        ({"tokens": ["a"], "tags": ["O"], "text": ["q"]}, "text .'q'. is not a string"),
        ({"tokens": ["a"], "tags": ["O"], "text_pair": "q"}, "`text_pair` beside `tokens`"),
        ({"tokens": ["a"], "tags": ["O"], "label": 10**400}, "label 10000.* finite number"),
        ({"text": "a", "label": 10**400}, "label 100000.* must be a finite number"),
        ({"text": "a", "label": -(10**400)}, "label -10000.* must be a finite number"),
        ({"text": 5, "label": "a"}, "text 5 is not a string"),
        ({"prompt": "a", "references": ["b"], "label": "c"}, "`label` beside `references`"),
    ],
)
def test_what_is_wrong_with_a_field_is_said(tmp_path, row, said):
    with pytest.raises(DataError, match=f"line 1 of .*mine.train.jsonl.*{said}"):
        load_task(put(tmp_path, "mine", [row]))


def test_a_key_that_is_there_twice_is_said_alone(tmp_path):
    rows = b'{"text": "a", "label": "b"}\n{"text": "a", "label": "b", "label": "c"}\n'
    with pytest.raises(DataError, match="line 2 of .*: the key 'label' is there twice") as caught:
        load_task(put(tmp_path, "mine", rows, TEXTS))
    assert "JSON" not in str(caught.value).replace("JSONL", "")
    assert str(caught.value).endswith("give each key once")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b'{"text": "\xff", "label": "b"}\n', "line 1 of .* is not UTF-8 .*iconv"),
        ('{"text": "a", "label": "b"}\n'.encode("utf-16-le"), "line 1 of .* holds a NUL byte"),
    ],
)
def test_lines_are_read_as_those_of_texts(tmp_path, rows, said):
    with pytest.raises(DataError, match=said):
        load_task(put(tmp_path, "mine", rows, TEXTS))


def numbered(*labels):
    return [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)]


COMPOSED, APART = "caf\xe9", "cafe\u0301"


@pytest.mark.parametrize("field", ["label", "tags"])
@pytest.mark.parametrize("place", ["train", "dev"])
def test_classes_that_differ_by_their_form_of_unicode_alone_are_refused(tmp_path, field, place):
    """They look like one, and were two classes; or one that the training file lacks."""

    def row(name):
        return (
            {"text": "a", "label": name}
            if field == "label"
            else {"tokens": ["a"], "tags": [f"B-{name}"]}
        )

    rows = {"train": [row(COMPOSED), row("other")], "dev": [row(COMPOSED)]}
    rows[place].append(row(APART))
    task = put(tmp_path, "task", rows["train"], rows["dev"])
    with pytest.raises(
        DataError, match=rf"{field} of which '.*cafe\\u0301' and '.*caf\\xe9' differ"
    ):
        load_task(task)


def test_labels_of_a_model_in_another_form_of_unicode_are_told():
    head = TaskHead("sequence", (APART, "other"))
    said = r"'cafe\u0301' and 'caf\xe9' differ by their form of Unicode alone"
    assert said in (label_problem([COMPOSED], head.labels, "the teacher") or "")
    with pytest.raises(ModelError, match=re.escape(said)):
        head.renamed({COMPOSED: "x"})


def test_numbers_where_a_published_task_has_classes_and_the_other_way_round(tmp_path):
    for name in ("sst2", "cola", "rucola", "mrpc", "terra"):
        with pytest.raises(DataError, match=r"whole numbers \(0, 1\) as labels.*as strings") as e:
            load_task(put(tmp_path, name, numbered(0, 1, 1)))
        assert ("'equivalent'" in str(e.value)) == (name == "mrpc")
        with pytest.raises(DataError, match=r"numbers \(0.5, 1\) as labels.*as strings"):
            load_task(put(tmp_path, name, numbered(0.5, 1)))
    with pytest.raises(DataError, match="the strings '0', '5' as labels.*as numbers"):
        load_task(put(tmp_path, "stsb", numbered("0", "5")))


def test_no_strings_are_advised_where_a_published_task_has_numbers(tmp_path):
    assert scoring_notes(load_task(put(tmp_path, "stsb", numbered(0, 5)))) == []
    put(tmp_path, "mine", numbered(0, 5))
    assert scoring_notes(load_task(f"{tmp_path}/mine>stsb")) == []
    [note] = scoring_notes(load_task(put(tmp_path, "other", numbered(0, 1234567))))
    assert "whole numbers (0, 1234567), so it is scored as regression" in note


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
