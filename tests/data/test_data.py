import gzip
import json
import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data.corpus import (
    SeededOrder,
    corpus_fingerprint,
    held_out_below,
    is_held_out,
    split_documents,
)
from limbeck.data.text import TextSource, check_source, read_documents
from limbeck.errors import DataError

LINES = ["Первая строка — с тире.", "second line 🙂 with emoji", "  third, padded  "]
EXPECTED = [line.strip() for line in LINES]


def write(path, content: bytes):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return TextSource(str(path))


def refused(source, pattern):
    with pytest.raises(DataError, match=pattern):
        check_source(source)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_come_through_clean(tmp_path, name, end, mark):
    content = mark + (end.join([LINES[0], "", *LINES[1:]])).encode()
    source = write(tmp_path / name, content)
    check_source(source)
    assert list(read_documents(source)) == EXPECTED


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_column_of_jsonl(tmp_path, name):
    rows = "\n".join(json.dumps({"body": line, "n": 1}) for line in LINES)
    source = write(tmp_path / name, rows.encode())
    assert list(read_documents(TextSource(source.path, column="body"))) == EXPECTED
    refused(source, "line 1 of .*column 'text' is not there; columns are body, n")


def test_csv_and_parquet(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    table = datasets.Dataset.from_dict({"text": LINES, "n": [1, 2, 3]})
    table.to_csv(str(tmp_path / "a.csv"))
    table.to_parquet(str(tmp_path / "a.parquet"))
    for name in ("a.csv", "a.parquet"):
        source = TextSource(str(tmp_path / name))
        assert list(read_documents(source)) == EXPECTED
        refused(TextSource(source.path, column="body"), "column 'body' is not there")


def test_a_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "novels.txt", b"text")
    refused(TextSource(str(tmp_path / "novel.txt")), "does not exist; did you mean .*novels.txt")


def test_folders_and_unknown_endings(tmp_path):
    refused(TextSource(str(tmp_path)), "is a folder")
    refused(write(tmp_path / "a.pdf", b"text"), "ends in .pdf; known are txt, jsonl")


def test_empty_files(tmp_path):
    refused(write(tmp_path / "a.txt", b""), "holds no document")
    refused(write(tmp_path / "b.txt", b"\n \n"), "holds no document")


def test_not_utf8(tmp_path):
    source = write(tmp_path / "a.txt", b"fine\n" + "плохо".encode("cp1251"))
    refused(source, "line 2 of .* is not UTF-8 .*iconv")


def test_a_line_of_50_megabytes(tmp_path):
    file = tmp_path / "a.txt"
    with file.open("wb") as out:
        out.write(b"fine\n")
        for _ in range(50):
            out.write(b"x" * 1_000_000)
    refused(TextSource(str(file)), "line 2 of .* is longer than 10000000 bytes")


def test_truncated_and_false_gzip(tmp_path):
    whole = gzip.compress("\n".join(f"line {n}" for n in range(10_000)).encode())
    short = tmp_path / "short.txt.gz"
    short.write_bytes(whole[: len(whole) // 2])
    refused(TextSource(str(short)), "is truncated or broken after line")
    false = tmp_path / "false.txt.gz"
    false.write_bytes(b"plain text")
    refused(TextSource(str(false)), "ends in .gz but is no gzip file")


def test_bad_json_lines(tmp_path):
    refused(write(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": '), "line 2 of .* is not JSON")
    refused(write(tmp_path / "b.jsonl", b"[1]"), "line 1 of .* is a list")
    refused(write(tmp_path / "c.jsonl", b'{"text": 5}'), "column 'text' holds int")


def test_a_hub_name_out_of_reach_says_so():
    refused(TextSource("someone/something"), "give a local file if the hub cannot be reached")


def test_a_documents_text_alone_decides_whether_it_is_held_out():
    documents = [f"document {n}" for n in range(5000)]
    below = held_out_below(documents, share=0.1)
    held_out = list(split_documents(documents, below=below, held_out=True))
    learned = list(split_documents(documents, below=below, held_out=False))
    assert sorted(held_out + learned) == sorted(documents)
    assert 400 < len(held_out) < 600
    assert list(split_documents(documents[::-1], below=below, held_out=True)) == held_out[::-1]
    assert all(is_held_out(text, below=math.ceil(0.2 * 2**64)) for text in held_out)


def test_the_split_of_a_corpus_never_changes():
    """Cached tables and published numbers depend on it."""
    documents = [f"document {n}" for n in range(100)]
    below = held_out_below(iter(documents), share=0.05)
    held_out = list(split_documents(documents, below=below, held_out=True))
    assert below == math.ceil(0.05 * 2**64) and held_out == ["document 40", "document 70"]


@given(count=st.integers(2, 12), share=st.sampled_from([1e-9, 0.01, 0.5, 0.99, 1 - 1e-9]))
@settings(max_examples=40, deadline=None)
def test_of_two_different_documents_one_is_held_out(count, share):
    documents = [f"document {n}" for n in range(count)] * 2
    below = held_out_below(documents, share=share)
    held_out = sum(is_held_out(text, below=below) for text in documents)
    assert 2 <= held_out <= len(documents) - 2
    asked = math.ceil(share * 2**64)
    plain = sum(is_held_out(text, below=asked) for text in documents)
    assert plain in (0, len(documents)) or below == asked


@pytest.mark.parametrize("documents", [[], ["one"], ["one", "one"]])
def test_one_document_is_on_one_side(documents):
    assert held_out_below(documents, share=0.1) == math.ceil(0.1 * 2**64)
    assert held_out_below(["one", "two"], share=0.0) == 0


def test_fingerprints_follow_the_content(tmp_path):
    source = write(tmp_path / "a.txt", b"one")
    before = corpus_fingerprint([source])
    os.utime(tmp_path / "a.txt", (1, 1))
    assert corpus_fingerprint([source]) == before
    assert corpus_fingerprint([write(tmp_path / "b.txt", b"one")]) == before
    assert corpus_fingerprint([write(tmp_path / "a.jsonl", b"one")]) != before
    write(tmp_path / "a.txt", b"two")
    os.utime(tmp_path / "a.txt", (1, 1))
    assert corpus_fingerprint([source]) != before
    for field in ("column", "split", "name"):
        other = TextSource(source.path, **{field: "b"})
        assert corpus_fingerprint([other]) != corpus_fingerprint([source])


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=3),
    counts=st.lists(st.integers(1, 700), min_size=1, max_size=5),
    seed=st.integers(0, 9),
)
def test_any_division_of_the_stream_gives_the_same_order(sizes, counts, seed):
    order = SeededOrder(tuple(sizes), tuple(float(n + 1) for n in range(len(sizes))), seed)
    parts, position = [], 0
    for count in counts:
        parts.append(order.indices(position, count))
        position += count
    assert (np.concatenate(parts) == order.indices(0, position)).all()


def test_every_epoch_is_a_fresh_permutation():
    order = SeededOrder((50,), (1.0,), seed=0)
    epochs = order.indices(0, 150).reshape(3, 50)
    assert (np.sort(epochs) == np.arange(50)).all()
    assert not (epochs[0] == epochs[1]).all()
    assert not (SeededOrder((50,), (1.0,), seed=1).indices(0, 50) == epochs[0]).all()


def test_sources_are_drawn_by_weight_and_each_wholly():
    order = SeededOrder((100, 40), (3.0, 1.0), seed=0)
    drawn = order.indices(0, 4000)
    assert (drawn >= 100).mean() == 0.25
    assert (np.sort(drawn[drawn >= 100][:40]) == np.arange(100, 140)).all()


@pytest.mark.parametrize(
    ("sizes", "weights", "message"),
    [((0,), (1.0,), "empty"), ((5,), (0.0,), "above 0"), ((5, 5), (1.0,), "2 sources have 1")],
)
def test_impossible_orders(sizes, weights, message):
    with pytest.raises(DataError, match=message):
        SeededOrder(sizes, weights, 0)
