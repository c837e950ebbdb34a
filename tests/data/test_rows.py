"""Rows of every format, by a description of where they are and which column is what."""

import gzip
import json
import re
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limbeck.data.hub_tables import hub_tables
from limbeck.data.kept_rows import KeptRows
from limbeck.data.row_files import content_of_rows, name_of_rows, stored_rows
from limbeck.data.rows import RowSource, parse_location
from limbeck.errors import DataError

TEXTS = ["a quiet, honest film", 'so "bad"', "two\tdogs"]
STARS = [5, 1, 3]
DELIMITERS = {".csv": ",", ".tsv": "\t"}


def quoted(value):
    return '"' + str(value).replace('"', '""') + '"'


def write(file, texts=TEXTS, stars=STARS):
    """A file of two columns, body and stars, in the format that its name says."""
    ending = "." + file.name.removesuffix(".gz").rsplit(".", 1)[1]
    if ending == ".parquet":
        pq.write_table(pa.table({"body": texts, "stars": stars}), file)
        return file
    rows = list(zip(texts, stars, strict=True))
    if ending == ".jsonl":
        lines = [json.dumps({"body": text, "stars": star}) for text, star in rows]
    else:
        between = DELIMITERS[ending]
        lines = [between.join(map(quoted, row)) for row in [("body", "stars"), *rows]]
    content = ("\n".join(lines) + "\n").encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def rows_of(source, split="train"):
    return [row.values for row in stored_rows(source).read(split)]


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.parquet"]
)
def test_every_format_gives_the_same_rows(tmp_path, name):
    source = RowSource(str(write(tmp_path / name)), text="body", label="stars")
    text = isinstance(rows_of(source)[0]["label"], str)
    assert text == name.startswith(("a.csv", "a.tsv"))
    as_numbers = RowSource(source.path, text="body", label="stars", problem_type="regression")
    assert [row["label"] for row in rows_of(as_numbers)] == STARS
    as_classes = RowSource(source.path, text="body", label="stars", problem_type="classification")
    assert [row["label"] for row in rows_of(as_classes)] == ["5", "1", "3"]
    named = RowSource(source.path, text="body", label="stars", labels={1: "no", 3: "so", 5: "yes"})
    assert rows_of(named) == [
        {"text": text, "label": label}
        for text, label in zip(TEXTS, ["yes", "no", "so"], strict=True)
    ]
    first = next(stored_rows(source).read("train"))
    assert first.place.startswith(("row 1 of ", "line 1 of ")) and name in first.place
    assert first.columns == ("body", "stars")


def test_lines_of_text_are_rows_without_labels(tmp_path):
    (tmp_path / "a.txt").write_text("one \n\n two\n")
    assert rows_of(RowSource(str(tmp_path / "a.txt"))) == [{"text": "one"}, {"text": "two"}]


def test_columns_of_the_same_name_need_no_mapping_and_others_are_not_read(tmp_path):
    (tmp_path / "a.csv").write_text("id,text,label,note\n1,a,x,\n2,b,y,z\n")
    found = rows_of(RowSource(str(tmp_path / "a.csv")))
    assert found == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


def test_a_folder_has_the_splits_that_its_files_are_named_after(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation", "extra"):
        write(tmp_path / f"{name}.parquet", [name], [1])
    source = RowSource(str(tmp_path), text="body")
    shards = [row["text"] for row in rows_of(source)]
    assert shards == ["train-00000-of-00002", "train-00001-of-00002"]
    assert [row["text"] for row in rows_of(source, "dev")] == ["validation"]
    assert rows_of(source, "validation") == rows_of(source, "dev")
    named = RowSource(str(tmp_path), text="body", split={"dev": "extra.parquet"})
    assert [row["text"] for row in rows_of(named, "dev")] == ["extra"]
    with pytest.raises(DataError, match="no split 'test'; there are extra, train, validation, dev"):
        rows_of(source, "test")


def test_files_may_have_a_common_name_before_the_split(tmp_path):
    for split in ("train", "dev"):
        write(tmp_path / f"reviews.{split}.csv", [split], [1])
    write(tmp_path / "other.train.csv")
    source = RowSource(str(tmp_path / "reviews"), text="body")
    assert [rows_of(source, split)[0]["text"] for split in ("train", "dev")] == ["train", "dev"]
    assert name_of_rows(source) == "reviews"


def labelled():
    names = datasets.ClassLabel(names=["neg", "pos"])
    tags = datasets.List(datasets.ClassLabel(names=["O", "B-X"]))
    words = datasets.List(datasets.Value("string"))
    features = {"text": datasets.Value("string"), "sentiment": names, "tokens": words, "ner": tags}
    rows = {
        "text": ["a", "b"],
        "sentiment": [1, -1],
        "tokens": [["a"], ["b"]],
        "ner": [[1], [0]],
    }
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


SENTIMENT = [{"text": "a", "label": "pos"}, {"text": "b", "label": None}]
NER = [{"tokens": ["a"], "tags": ["B-X"]}, {"tokens": ["b"], "tags": ["O"]}]


def kept_alike(path, name=None):
    """The names of class labels and of tags, as the dataset has them."""
    found = rows_of(RowSource(path, name=name, label="sentiment", tags="ner"))
    assert [{field: row[field] for field in ("text", "label")} for row in found] == SENTIMENT
    assert [{field: row[field] for field in ("tokens", "tags")} for row in found] == NER
    numbers = RowSource(path, name=name, label="sentiment", problem_type="regression")
    assert rows_of(numbers)[0]["label"] == 1


def test_class_labels_keep_their_names(tmp_path, monkeypatch):
    labelled().to_parquet(str(tmp_path / "a.parquet"))
    kept_alike(str(tmp_path / "a.parquet"))
    labelled().save_to_disk(str(tmp_path / "saved"))
    kept_alike(str(tmp_path / "saved"))
    splits = datasets.DatasetDict({"train": labelled(), "test": labelled()})
    splits.save_to_disk(str(tmp_path / "splits"))
    kept_alike(str(tmp_path / "splits"))
    assert stored_rows(RowSource(str(tmp_path / "splits"))).names == ["train", "test"]
    streamed = datasets.IterableDatasetDict(
        {split: some.to_iterable_dataset() for split, some in splits.items()}
    )
    asked = []

    def load(path, name, *, streaming):
        asked.append((path, name))
        assert streaming
        return streamed

    monkeypatch.setattr(datasets, "load_dataset", load)
    kept_alike("someone/sentiment", "english")
    assert asked == [("someone/sentiment", "english")]
    source = RowSource("someone/sentiment", name="english", split="test")
    assert len(rows_of(source)) == 2 and content_of_rows(source) == "sentiment_english"
    with pytest.raises(DataError, match="no split or file 'tset'; did you mean 'test'"):
        rows_of(RowSource("someone/sentiment", name="english", split="tset"))
    with pytest.raises(DataError, match="someone/sentiment: the column 'x' for `text` is not ther"):
        rows_of(RowSource("someone/sentiment", name="english", text="x"))
    hub_tables.cache_clear()


def test_a_stream_is_read_once_where_its_rows_are_json():
    begun = []

    def stream(values):
        begun.append(len(values))
        yield from ((({"n": value}), f"row {n}") for n, value in enumerate(values))

    kept = KeptRows(lambda: stream([1, [2.5, None], "\ud800\n"]))
    assert next(kept.read()) == ({"n": 1}, "row 0")  # not the whole: nothing is kept
    whole = list(kept.read())
    both = zip(kept.read(), kept.read(), strict=True)  # two readers at a time
    assert all(one == other == wanted for (one, other), wanted in zip(both, whole, strict=True))
    assert begun == [3, 3] and whole[2] == ({"n": "\ud800\n"}, "row 2")
    other = KeptRows(lambda: stream([b"a", 2]))
    assert list(other.read()) == list(other.read()) and begun == [3, 3, 2, 2]


def test_a_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="someone/nothing cannot be read: .*give a local file"):
        stored_rows(RowSource("someone/nothing"))


def test_names_of_labels(tmp_path):
    pq.write_table(
        pa.table({"text": ["a", "b"], "spam": [True, False], "n": [0.0, 1.0]}),
        tmp_path / "a.parquet",
    )
    path = str(tmp_path / "a.parquet")
    named = RowSource(path, label="spam", labels={True: "spam", False: "ham"})
    assert [row["label"] for row in rows_of(named)] == ["spam", "ham"]
    whole = RowSource(path, label="n", labels=["no", "yes"])
    assert [row["label"] for row in rows_of(whole)] == ["no", "yes"]
    with pytest.raises(DataError, match="row 1 .*: the label is a truth value; name both"):
        rows_of(RowSource(path, label="spam"))
    with pytest.raises(DataError, match="row 2 of .*: 1.0 has no name; .* for 0"):
        rows_of(RowSource(path, label="n", labels=["no"]))
    pq.write_table(pa.table({"tokens": [["a", "b"]], "tags": [[1, 0]]}), tmp_path / "b.parquet")
    tagged = RowSource(str(tmp_path / "b.parquet"), labels=["O", "B-X"])
    assert rows_of(tagged) == [{"tokens": ["a", "b"], "tags": ["B-X", "O"]}]


def test_names_of_labels_as_pandas_writes_them(tmp_path):
    (tmp_path / "a.csv").write_text("text,spam,n\na,True,0.0\nb,False,2.0\n")
    path = str(tmp_path / "a.csv")
    named = RowSource(path, label="spam", labels={True: "spam", False: "ham"})
    assert [row["label"] for row in rows_of(named)] == ["spam", "ham"]
    named = RowSource(path, label="n", labels=["x", "y", "z"])
    assert [row["label"] for row in rows_of(named)] == ["x", "z"]
    with pytest.raises(DataError, match="2.0.* has no name"):
        rows_of(RowSource(path, label="n", labels=["x", "y"]))
    exact = RowSource(path, label="n", labels={"0.0": "x", 0: "y", 2: "z"})
    assert [row["label"] for row in rows_of(exact)] == ["x", "z"]


def test_the_advice_on_truth_values_can_be_followed(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": true}\n')
    with pytest.raises(DataError) as refused:
        rows_of(RowSource(str(tmp_path / "a.jsonl")))
    [labels] = re.findall(r"labels: (\{.*\})", str(refused.value))
    source = parse_location(f"{{path: {tmp_path / 'a.jsonl'}, labels: {labels}}}")
    assert [row["label"] for row in rows_of(source)] == ["yes"]


def test_two_sets_of_numbered_files_are_refused(tmp_path):
    for name in ("0-of-1", "0-of-2", "1-of-2"):
        write(tmp_path / f"train-0000{name[0]}-of-0000{name[-1]}.csv")
    with pytest.raises(DataError, match="00000-of-00001.csv and .* are numbered twice; keep one"):
        stored_rows(RowSource(str(tmp_path)))
    (tmp_path / "train-00000-of-00001.csv").rename(tmp_path / "train-00000-of-00002.jsonl")
    with pytest.raises(DataError, match="are numbered twice"):
        stored_rows(RowSource(str(tmp_path)))


def test_a_folder_as_it_is_on_the_hub(tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        write(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text("of a dataset")
    stored = stored_rows(RowSource(str(tmp_path), text="body"))
    assert stored.names == ["test", "train"]
    assert [row.values["text"] for row in stored.read("train")] == TEXTS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "path is missing"),
        ({"path": ""}, "path: String should have at least 1 character"),
        ({"path": "a", "lable": "x"}, "unknown key 'lable'; did you mean 'label'?"),
        ({"path": "a", "text": 3}, "text: Input should be a valid string .given: 3"),
        ({"path": "a", "text": "x", "label": "x"}, "text and label name the same column 'x'"),
        ({"path": "a", "split": {"dev": 1.5}}, "split says dev: 1.5; give a fraction"),
        ({"path": "a", "split": {"dev": 0}}, "split says dev: 0; give a fraction"),
        ({"path": "a", "split": {"dev": True}}, "split says dev: True; give a fraction"),
        ({"path": "a", "split": {"dev": 0.6, "test": 0.4}}, "takes 1 of the training rows"),
        ({"path": "a", "split": {"train": 0.5}}, "takes a fraction for train"),
        ({"path": "a", "split": 0.5}, "split is 0.5; give a mapping"),
        ({"path": "a", "labels": [False, True]}, "has the name False; .*put no, yes, on and off"),
        ({"path": "a", "labels": "x"}, "labels is 'x'; give a list of names"),
        ({"path": "a", "problem_type": "ranking"}, "problem_type: .*'classification' or"),
        ({"path": "a", "task_name": "x/y"}, "task_name is 'x/y'; it names files: give letters"),
        (
            {"path": "a", "labels": ["x"], "problem_type": "regression"},
            "labels are names of classes, and problem_type is regression",
        ),
        ("{path: a", "is not YAML"),
        (["a"], "says no place of rows"),
        (None, "says no place of rows"),
    ],
)
def test_a_description_that_cannot_be_meant(given, said):
    with pytest.raises(DataError, match=said):
        parse_location(given)


def test_all_problems_of_a_description_come_at_once():
    with pytest.raises(DataError, match=r"split says dev.*; .*unknown key 'lable'"):
        parse_location("{path: a, lable: x, split: {dev: 3}}")


def test_a_mapping_may_be_text_of_a_command_line():
    text = "{path: reviews.csv, text: body, label: stars, labels: {1: bad, 5: good}, split: dev}"
    assert parse_location(text) == RowSource(
        "reviews.csv", text="body", label="stars", labels={"1": "bad", "5": "good"}, split="dev"
    )
    assert parse_location("data/sst2") == parse_location(Path("data/sst2")) == "data/sst2"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"path": "a.csv", "text": "bdoy"}, "a.csv: the column 'bdoy' for `text` is not there; c"),
        ({"path": "a.csv", "label": "x"}, "the column 'x' for `label` .* columns are body, stars"),
        ({"path": "a.jsonl", "text": "x"}, "line 1 of .*a.jsonl: the column 'x' for `text` is not"),
        ({"path": "twice.csv", "text": "a"}, "line 1 of .*'a' is there 2 times"),
        ({"path": "twice.parquet", "text": "a"}, "twice.parquet: the column 'a' is there 2 times"),
        ({"path": "a.cvs"}, "a.cvs does not exist; did you mean .*a.csv"),
        ({"path": "a.xml"}, "a.xml ends in none of .jsonl, .json, .csv, .tsv"),
        ({"path": "b.csv"}, "b.csv does not exist"),
        ({"path": "a.csv", "name": "en"}, "'en'. is the configuration of a hub dataset; leave"),
        ({"path": "a.csv", "split": {"train": "a.jsonl"}}, "is a file, whose rows are learned"),
        ({"path": "a.csv", "split": {"dev": "a.jsnol"}}, "no split or file 'a.jsnol'; did you m"),
        ({"path": "other"}, "holds no file of training rows .*, but some.csv; name one"),
        ({"path": "none"}, "holds no file of training rows .*, but no file of rows"),
        ({"path": "both"}, "both holds train.csv and train.jsonl; say which .*{train: train.csv}"),
        ({"path": "broken"}, "broken is no readable folder of save_to_disk"),
        ({"path": "broken.parquet"}, "broken.parquet cannot be read after row 0"),
        ({"path": "ragged.tsv"}, r"row 1 of .*ragged.tsv \(line 2\) has 2 field"),
        ({"path": "quote.tsv"}, r"row 1 of .*quote.tsv \(line 2\) has more text after the quote"),
        ({"path": "tab.tsv"}, r"row 1 of .*tab.tsv \(line 2\) has 3 field.* a line is a row"),
        ({"path": "excel.csv"}, "'text;label', and seems to be separated by semicolons"),
        ({"path": "nan.parquet", "problem_type": "classification"}, "label is nan, as where a val"),
        ({"path": "shards"}, "holds 2 of 3 numbered files .* number 1 is missing; copy it too"),
        (
            {"path": "a.csv", "text": "stars", "label": "body", "problem_type": "regression"},
            "row 1 of .* the label 'a quiet, honest film' is no number, and problem_type",
        ),
    ],
)
def test_rows_that_are_not_there(tmp_path, source, said):
    for name in ("a.csv", "a.jsonl", "both/train.csv", "both/train.jsonl", "other/some.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name)
    (tmp_path / "none").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset_info.json").write_text("{")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "a.xml").write_text("<a/>")
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    (tmp_path / "ragged.tsv").write_text("text\tlabel\tmore\na\tb\n")
    (tmp_path / "quote.tsv").write_text('"text"\t"label"\n"a" b\tx\n')
    (tmp_path / "tab.tsv").write_text('text\tlabel\n"a\tb"\tx\n')
    (tmp_path / "excel.csv").write_text("text;label\na;x\n")
    pq.write_table(pa.table({"text": ["a"], "label": [float("nan")]}), tmp_path / "nan.parquet")
    (tmp_path / "shards").mkdir()
    for number in (0, 2):
        (tmp_path / "shards" / f"train-{number:05}-of-00003.csv").write_text("text,label\na,x\n")
    pq.write_table(
        pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"]),
        tmp_path / "twice.parquet",
    )
    source = {**source, "path": str(tmp_path / source["path"])}
    with pytest.raises(DataError, match=said):
        rows_of(parse_location(source))


def test_quotes_of_a_tsv_belong_to_texts_where_the_header_has_none(tmp_path):
    """As GLUE and others write them; programs that quote some fields double quotes inside."""
    texts = ['"an unfinished quote', '"all" he said', '"said', 'ends here"', '"a ""b"" c"', '"x"']
    lines = ["sentence\tlabel", *(f"{text}\tpos" for text in texts)]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
    found = rows_of(RowSource(str(tmp_path / "a.tsv"), text="sentence"))
    assert [row["text"] for row in found] == [*texts[:4], 'a "b" c', '"x"']


def test_splits_are_named_in_any_case(tmp_path):
    for name in ("Train.csv", "Test.csv"):
        (tmp_path / name).write_text("text,label\na,x\n")
    assert stored_rows(RowSource(str(tmp_path))).names == ["test", "train"]


def test_names_in_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text("text\n")
    for source, name in [
        (RowSource("a/reviews.csv.gz"), "reviews"),
        (RowSource("a/reviews.train.csv"), "reviews"),
        (RowSource("a/reviews/train.csv"), "reviews"),
        (RowSource("train.csv"), tmp_path.name),
        (RowSource("."), tmp_path.name),
        (RowSource("imdb"), "imdb"),
        (RowSource("nyu-mll/glue", name="sst2"), "glue_sst2"),
        (RowSource("nyu-mll/glue", name="sst2", task_name="sst2"), "sst2"),
    ]:
        assert name_of_rows(source) == name


def test_the_content_of_rows_changes_with_their_files(tmp_path):
    write(tmp_path / "train.csv")
    write(tmp_path / "dev.csv")
    source = RowSource(str(tmp_path))
    before = content_of_rows(source)
    write(tmp_path / "dev.csv", stars=[1, 1, 1])
    assert content_of_rows(source) != before
    write(tmp_path / "dev.csv")
    assert content_of_rows(source) == before
