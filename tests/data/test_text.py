"""Problems of single files; ordinary reading is tested in test_data.py."""

import gzip
import tracemalloc

import pytest

from limbeck.data.text import TextSource, check_source, read_documents
from limbeck.errors import DataError


def write(path, content: bytes):
    path.write_bytes(content)
    return TextSource(str(path))


def refused(source, pattern):
    with pytest.raises(DataError, match=pattern):
        check_source(source)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"text,n\nhello,1\n,2\nworld,3\n", ["hello", "world"]),
        (b"text\nNA\nnull\nnan\nNone\n", ["NA", "null", "nan", "None"]),
        (b"text,n\n012,1\n3.50,2\n", ["012", "3.50"]),
        (b'\xef\xbb\xbftext,n\r\nhello,1\r\n"two, three",2\r\n', ["hello", "two, three"]),
    ],
)
def test_fields_of_csv_are_verbatim(tmp_path, content, expected):
    for name, stored in (("a.csv", content), ("a.csv.gz", gzip.compress(content))):
        assert list(read_documents(write(tmp_path / name, stored))) == expected


def test_brackets_in_a_name_are_no_glob_pattern(tmp_path):
    write(tmp_path / "a1.csv", b"text\nthe other file\n")
    source = write(tmp_path / "a[1].csv", b"text\nthis file\n")
    assert list(read_documents(source)) == ["this file"]


def test_broken_tables(tmp_path):
    refused(write(tmp_path / "a.csv", "text\nплохо\n".encode("cp1251")), "is not UTF-8.*iconv")
    refused(write(tmp_path / "b.csv", b"text\n"), "holds no document")
    refused(write(tmp_path / "c.csv.gz", b"text\nplain\n"), "ends in .gz but is no gzip file")
    refused(write(tmp_path / "d.csv", b"body,n\na,1\n"), "line 1 of .*'text' is not there.*body, n")
    refused(write(tmp_path / "e.parquet", b"PAR1"), "cannot be read.*give a readable file")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\rtwo\r"),
        ("a.txt", "one\rtwo\r\n"),
        ("a.txt.gz", "one\rtwo"),
        ("a.csv", "text\rone\rtwo\r"),
        ("a.jsonl", '{"text": "one"}\r{"text": "two"}\r'),
    ],
)
def test_files_whose_lines_end_with_a_carriage_return_alone_are_told(tmp_path, name, content):
    """They were one document."""
    data = content.encode()
    source = write(tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data)
    refused(source, r"a.*end lines with .n, not with a carriage return alone: tr")


def test_a_carriage_return_within_a_file_of_lines_stays(tmp_path):
    source = write(tmp_path / "a.txt", b"10 %\r20 %\r\ntwo\r\n")
    assert list(read_documents(source)) == ["10 %\r20 %", "two"]
    assert list(read_documents(write(tmp_path / "b.txt", b"one\r\n"))) == ["one"]


def test_messages_name_the_whole_ending(tmp_path):
    refused(write(tmp_path / "a.parquet.gz", b"x"), r"ends in \.parquet\.gz; known are")
    refused(write(tmp_path / "a.pdf.gz", b"x"), r"ends in \.pdf\.gz; known are")
    refused(write(tmp_path / "README", b"x"), "ends in nothing; known are")


def test_impossible_paths():
    refused(TextSource("x" * 5000), "cannot be looked up: File name too long")
    refused(TextSource(""), "'' is a folder")


def test_folders_of_datasets_and_patterns_are_told_what_to_do(tmp_path):
    (tmp_path / "dataset_info.json").touch()
    refused(TextSource(str(tmp_path)), r"is a folder; `datasets` has saved it, .*to_parquet")
    refused(TextSource(f"{tmp_path}/*.txt"), "does not exist; patterns are not read, so name")


@pytest.mark.parametrize("text", [b"one\ntwo\nthree\n", b"one line without an end"])
def test_gzip_with_a_wrong_checksum_or_trailing_bytes(tmp_path, text):
    whole = gzip.compress(text)
    false_sum = whole[:-8] + b"\0\0\0\0" + whole[-4:]
    refused(write(tmp_path / "a.txt.gz", false_sum), "truncated or broken after line .*CRC")
    refused(write(tmp_path / "b.txt.gz", whole + b"more"), "truncated or broken after line")


def test_json_that_is_not_valid_text(tmp_path):
    deep = write(tmp_path / "a.jsonl", b'{"text": "a"}\n' + b"[" * 200_000)
    refused(deep, "line 2 of .* is not JSON")
    half = write(tmp_path / "b.jsonl", b'{"text": "a \\ud83d\\ude42"}\n{"text": "a \\ud83d"}\n')
    refused(half, "line 2 of .*: the column 'text' holds half a character .* at 2")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_line_that_is_too_long_is_not_read_completely(tmp_path, name):
    source = TextSource(str(tmp_path / name))
    million = b"x" * 1_000_000
    part = gzip.compress(million) if name.endswith(".gz") else million
    (tmp_path / name).write_bytes(part * 50)  # gzip files may follow one another in one
    tracemalloc.start()
    try:
        refused(source, "line 1 of .* is longer than 10000000 bytes")
        assert tracemalloc.get_traced_memory()[1] < 35_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("a.txt", {"split": "test"}, "`split: test` would not be read .that is for hub datasets"),
        ("a.jsonl", {"name": "en"}, "`name: en` would not be read"),
        ("a.txt", {"column": "body"}, "`column: body` would not be read .a txt file has no"),
        ("a.txt", {"column": "body", "split": "dev"}, "`split: dev, column: body` would not"),
    ],
)
def test_fields_that_a_file_has_not_are_refused(tmp_path, name, given, said):
    (tmp_path / name).write_text('{"text": "a"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=said):
        check_source(TextSource(str(tmp_path / name), **given))
    check_source(TextSource(str(tmp_path / name), split="train", column="text"))
