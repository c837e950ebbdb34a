"""Tables as people export them: every field is read, or the message names the row."""

import gzip
import itertools
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limbeck.data.text import TextSource, check_source, read_documents
from limbeck.errors import DataError


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return TextSource(str(path))


def refused(source, pattern):
    with pytest.raises(DataError, match=pattern):
        list(read_documents(source))
    with pytest.raises(DataError, match=pattern):
        check_source(source)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('text\n"Hello, world"\nplain\n', ["Hello, world", "plain"]),
        ('text,n\n"two\nlines",1\n"one ""word""",2', ["two\nlines", 'one "word"']),
        ('text,n\r\n"two\r\nlines",1\r\nlast,2\r\n', ["two\r\nlines", "last"]),
        ("\ufefftext,n\nhello,1\n", ["hello"]),
        ('\ufeff"text"\nhello\n', ["hello"]),
        (",text\n0,hello\n1,world\n", ["hello", "world"]),
        ("text,\nhello,\n", ["hello"]),
        ("n,text,n\n1,hello,2\n", ["hello"]),
        ("text,n\nhello,1\n\n   \nworld,2\n\n", ["hello", "world"]),
        ("text,n\n,1\nhello,2\n", ["hello"]),
        ('text,n\na 5" pipe,1\n', ['a 5" pipe']),
        ("\n\ntext\nhello\n", ["hello"]),
        (f'text\n"{"long " * 100_000}"\n', [("long " * 100_000).strip()]),
    ],
)
def test_valid_csv(tmp_path, content, expected):
    for name, stored in (
        ("a.csv", content.encode()),
        ("a.csv.gz", gzip.compress(content.encode())),
    ):
        source = write(tmp_path / name, stored)
        check_source(source)
        assert list(read_documents(source)) == expected


RAGGED = r"row 1 of .*a\.csv \(line 2\) has 2 field\(s\) \('Hello', "


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (
            "text\nHello, world\nplain\n",
            RAGGED + r"' world'\), and the header 1 \(text\); put a te",
        ),
        ("text\nHello,\nplain\n", RAGGED + r"''\), and the header 1"),
        ('text\n"Hello", "world"\n', RAGGED),
        ('text\nplain\n "Hello, world"\n', r"row 2 of .*\(line 3\) has 2 field"),
        ("text,n\nHello, world,1\n", r"row 1 of .*\(line 2\) has 3 field.* header 2 \(text, n\)"),
        ("text,n\nok,1\nHello\n", r"row 2 of .*\(line 3\) has 1 field.*a value for every column"),
        ("text,n\nok,1\n\n\nHello,\n,,,\n", r"row 3 of .*\(line 6\) has 4 field"),
        ('text,n\n"two\nlines",1\nHello, world,1\n', r"row 2 of .*\(line 4\) has 3 field"),
        ("text,text\na,b\n", "line 1 of .*'text' is there 2 times; columns are text, text"),
        ("Hello world\nplain\n", "line 1 of .*'text' is not there; columns are Hello world.*first"),
        ("text;n\nhello;1\n", "'text;n', and seems to be separated by semicolons"),
        (
            'text\n"Hello\nplain\nmore\n',
            r"row 1 of .*\(line 2\) begins a text with a quote .* never",
        ),
        (
            'text\nok\n"Hello\nplain\n"more\n',
            r"row 2 of .*\(line 3\) has more text after the quote",
        ),
        ('text\n"say \\"no\\""\n', r"row 1 of .*\(line 2\) has more text after .* double it"),
        ('"text\nplain\n', "line 1 of .* begins a text with a quote"),
        ("text\none\rtwo\n", r"row 1 of .*\(line 2\) holds a carriage return outside quotes"),
        ("text\nplain\0\n", "line 2 of .* holds a NUL byte"),
        ("text\nplain\n".encode("utf-16-le"), "line 1 of .* holds a NUL byte .*UTF-16LE"),
        ("text\nplain\n".encode("utf-16-be"), "line 1 of .* holds a NUL byte .*UTF-16BE"),
        (gzip.compress(b"text\nplain\n", mtime=0), "packed by gzip; end its name in .gz"),
        ("text\nplain\n".encode("utf-16"), "line 1 of .* is UTF-16; .*iconv -f UTF-16"),
        ("text\nплохо\n".encode("cp1251"), "line 2 of .* is not UTF-8 .*iconv"),
        (
            'text\n"' + "a long line \n" * 800_000,
            "row 1 .* field of more than 10,000,000 characters",
        ),
    ],
)
def test_csv_that_would_lose_text_is_refused(tmp_path, content, pattern):
    refused(write(tmp_path / "a.csv", content), pattern)


@pytest.mark.parametrize("content", ["", "\n\n", "text\n", "text,n\n,1\n"])
def test_csv_without_text(tmp_path, content):
    with pytest.raises(DataError, match="holds no document"):
        check_source(write(tmp_path / "a.csv", content))


def test_truncated_csv_gzip(tmp_path):
    rows = "text\n" + "".join(f"line {n}\n" for n in range(10_000))
    whole = gzip.compress(rows.encode())
    refused(write(tmp_path / "a.csv.gz", whole[: len(whole) // 2]), "is truncated or broken after")
    refused(write(tmp_path / "b.csv.gz", rows), "ends in .gz but is no gzip file")


def test_every_row_of_a_csv_is_checked_before_a_run(tmp_path):
    rows = "text\n" + "plain\n" * 5000 + "Hello, world\n"
    with pytest.raises(DataError, match=r"row 5001 of .*\(line 5002\)"):
        check_source(write(tmp_path / "a.csv", rows))


def test_a_csv_is_streamed(tmp_path):
    source = write(tmp_path / "a.csv", "id,text\n" + "1,some words of a text\n" * 200_000)
    tracemalloc.start()
    try:
        read = sum(1 for _ in itertools.islice(read_documents(source), 20_000))
        assert read == 20_000 and tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def parquet(path, columns, names=None):
    table = pa.Table.from_arrays(list(columns.values()), names=names or list(columns))
    pq.write_table(table, path)
    return TextSource(str(path))


def test_parquet_of_every_kind_of_string(tmp_path):
    texts = pa.array(["one", "", "two"])
    for kind in (texts, texts.cast(pa.large_string()), texts.dictionary_encode()):
        source = parquet(tmp_path / "a.parquet", {"text": kind, "n": pa.array([1, 2, 3])})
        check_source(source)
        assert list(read_documents(source)) == ["one", "two"]


def test_parquet_without_text(tmp_path):
    some = pa.array(["one"] * 3000 + [None])
    refused(parquet(tmp_path / "a.parquet", {"text": some}), r"row 3001 of .*'text' holds null")
    for column in (pa.array([1]), pa.array([["a"]]), pa.array([b"a"]), pa.nulls(1)):
        source = parquet(tmp_path / "b.parquet", {"text": column})
        refused(source, r"the column 'text' holds \S+( string>)?, not strings")
    twice = parquet(tmp_path / "c.parquet", {"a": some, "b": some}, names=["text", "text"])
    refused(twice, "'text' is there 2 times")
    other = parquet(tmp_path / "d.parquet", {"body": some})
    refused(other, "'text' is not there; columns are body")


def test_parquet_that_is_broken(tmp_path):
    source = parquet(tmp_path / "a.parquet", {"text": pa.array(["one two"] * 10_000)})
    data = (tmp_path / "a.parquet").read_bytes()
    refused(write(tmp_path / "b.parquet", data[: len(data) // 2]), "cannot be read after row 0")
    refused(write(tmp_path / "c.parquet", b""), "cannot be read after row 0")
    assert len(list(read_documents(source))) == 10_000


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        ('{"text": null}\n', "line 1 of .*'text' holds null"),
        ('{"text": "a"}\n\n{"text": 5}\n', "line 3 of .*'text' holds int"),
        ('{"text": ["a"]}\n', "line 1 of .*'text' holds list"),
        ('{"text": "a"}\n{"body": "b"}\n', "line 2 of .*'text' is not there; columns are body"),
        ('{"text": "a", "text": "b"}\n', "line 1 of .*the key 'text' is there twice"),
        ('{"text": "a"} {"text": "b"}\n', "line 1 of .* is not JSON"),
        ('{"text": "a"}\r{"text": "b"}\r', "line 1 of .* is not JSON"),
        ('[{"text": "a"},\n{"text": "b"}]\n', "line 1 of .* is not JSON"),
        ('{"text": "a\0"}\n', "line 1 of .* holds a NUL byte"),
        ('{"text": "a"}\n'.encode("utf-16-le"), "line 1 of .* holds a NUL byte"),
    ],
)
def test_json_lines_that_would_lose_text_are_refused(tmp_path, content, pattern):
    refused(write(tmp_path / "a.jsonl", content), pattern)


def test_valid_json_lines(tmp_path):
    content = (
        '\ufeff{"text": "one\\n"}\r\n\r\n{"n": 1, "text": ""}\n  \n{"text": "two \u2028 three"}'
    )
    assert list(read_documents(write(tmp_path / "a.jsonl", content))) == ["one", "two \u2028 three"]
