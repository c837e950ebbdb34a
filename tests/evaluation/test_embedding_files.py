"""Files of pairs, queries and documents."""

import gzip
import json

import pytest

from limbeck.errors import DataError
from limbeck.evaluation.embeddings.files import (
    Pairs,
    Retrieval,
    read_bitext,
    read_retrieval,
    read_similarity,
)

CORPUS = [{"id": "d0", "text": "a river"}, {"id": 7, "title": "Houses", "text": "an old house"}]
QUERIES = [{"id": "q0", "text": "water?", "relevant": ["d0"]}]


def write(file, rows):
    text = "\n".join(json.dumps(row) for row in rows)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text, encoding="utf-8")


def retrieval(folder, *, corpus=CORPUS, queries=QUERIES):
    write(folder / "own.corpus.jsonl.gz", corpus)
    write(folder / "own.queries.jsonl", queries)
    return str(folder / "own")


def test_similarity(tmp_path):
    rows = [
        {"text": "a", "text_pair": "b", "label": 4},
        {"text": "c", "text_pair": "d", "label": 1.5},
    ]
    for split in ("dev", "test"):
        write(tmp_path / f"own.{split}.jsonl", rows if split == "dev" else rows[::-1])
    place = str(tmp_path / "own")
    assert read_similarity(place) == Pairs("own", ("a", "c"), ("b", "d"), (4.0, 1.5))
    assert read_similarity(place, split="test").labels == (1.5, 4.0)
    (tmp_path / "own.dev.jsonl").unlink()
    assert read_similarity(place).labels == (1.5, 4.0)
    with pytest.raises(DataError, match=r"own\.train\.jsonl nor .* is there; splits of own"):
        read_similarity(place, split="train")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "a", "text_pair": "b", "label": "entailment"}, "the label is 'entailment'.*4.2"),
        ({"text": "a", "text_pair": "b"}, "the label is None; similarity needs a number"),
        ({"text": "a", "text_pair": "b", "label": True}, "the label is True"),
        ({"text": "a", "text_pair": "b", "label": float("nan")}, "the label is nan"),
        ({"text": "a", "label": 1}, "there is no `text_pair`"),
        ({"text": " ", "text_pair": "b", "label": 1}, "`text` is ' '; give a text that is not"),
        ({"text": "a", "text_pair": 5, "label": 1}, "`text_pair` is 5"),
    ],
)
def test_pairs_that_cannot_be_compared(row, said, tmp_path):
    write(tmp_path / "own.dev.jsonl", [{"text": "a", "text_pair": "b", "label": 0}, row])
    with pytest.raises(DataError, match=f"line 2 of .*{said}"):
        read_similarity(str(tmp_path / "own"))


def test_labels_that_do_not_differ(tmp_path):
    write(tmp_path / "own.dev.jsonl", [{"text": "a", "text_pair": "b", "label": 3}] * 4)
    with pytest.raises(DataError, match=r"all 4 labels of .* \(dev\) are 3, so pairs cannot be"):
        read_similarity(str(tmp_path / "own"))


def test_bitext(tmp_path):
    write(tmp_path / "en_ru.jsonl.gz", [{"text": "house", "text_pair": "дом"}])
    expected = Pairs("en_ru", ("house",), ("дом",))
    assert read_bitext(str(tmp_path / "en_ru")) == expected
    assert read_bitext(str(tmp_path / "en_ru.jsonl.gz")) == expected
    with pytest.raises(DataError, match=r"en_de\.jsonl nor en_de\.jsonl\.gz is there; give DIR"):
        read_bitext(str(tmp_path / "en_de"))
    with pytest.raises(DataError, match=r"did you mean .*en_ru\?"):
        read_bitext(str(tmp_path / "en_ur"))


def test_a_name_that_is_misspelt_gets_the_nearest(tmp_path):
    write(tmp_path / "stsb.dev.jsonl", [{"text": "a", "text_pair": "b", "label": 3}])
    with pytest.raises(DataError, match=r"stsbb\.test\.jsonl.* did you mean .*stsb\?"):
        read_similarity(str(tmp_path / "stsbb"))
    with pytest.raises(DataError, match=r"sstb\.corpus\.jsonl.* did you mean .*stsb\?"):
        read_retrieval(str(tmp_path / "sstb"))


def test_retrieval(tmp_path):
    queries = [*QUERIES, {"id": 1, "text": "walls", "relevant": [7, "d0"]}]
    found = read_retrieval(retrieval(tmp_path, queries=queries))
    assert found == Retrieval(
        "own",
        ("water?", "walls"),
        ("a river", "Houses an old house"),
        (frozenset({0}), frozenset({0, 1})),
    )


def test_a_document_may_be_a_title_alone(tmp_path):
    corpus = [*CORPUS, {"id": "d2", "title": "Rivers of Kent", "text": ""}]
    assert read_retrieval(retrieval(tmp_path, corpus=corpus)).corpus[2] == "Rivers of Kent"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"corpus": []}, r"own\.corpus\.jsonl\.gz is empty"),
        ({"queries": []}, r"own\.queries\.jsonl is empty"),
        (
            {"corpus": [*CORPUS, {"id": "7", "text": "again"}]},
            r"line 3 of .*the id '7' is also that of line 2 of",
        ),
        ({"queries": QUERIES * 2}, "line 2 of .*the id 'q0' is also that of line 1 of"),
        ({"corpus": [{"text": "a"}]}, "`id` is None; give a string or a whole number"),
        ({"corpus": [{"id": "d0", "text": ""}]}, "`text` is ''; give a text that is not empty"),
    ],
)
def test_retrieval_files_that_are_refused(given, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read_retrieval(retrieval(tmp_path, **given))


@pytest.mark.parametrize(
    ("relevant", "said"),
    [
        (["d0", "d9"], "1 of the 2 ids in `relevant` are not in the corpus of 2 rows.*'d9'"),
        ([], r"`relevant` is \[\]; give a list"),
        (None, "`relevant` is None; give a list"),
        ("d0", "`relevant` is 'd0'; give a list"),
        ([1.5], "an id in `relevant` is 1.5"),
        (["d0", "d0"], r"names an id twice \(\['d0', 'd0'\]\)"),
    ],
)
def test_queries_without_documents(relevant, said, tmp_path):
    queries = [{"id": "q0", "text": "water?", "relevant": relevant}]
    with pytest.raises(DataError, match=f"line 1 of .*{said}"):
        read_retrieval(retrieval(tmp_path, queries=queries))


def test_a_missing_corpus_is_named(tmp_path):
    write(tmp_path / "own.queries.jsonl", QUERIES)
    with pytest.raises(DataError, match=r"own\.corpus\.jsonl nor own\.corpus\.jsonl\.gz"):
        read_retrieval(str(tmp_path / "own"))
