"""Text in object stores and on the hub.

A file of a store is read like the same file here, and known by what the store says of it.
"""

import gzip

import datasets
import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from limbeck.data.corpus import corpus_fingerprint
from limbeck.data.text import TextSource, check_source, read_documents
from limbeck.errors import DataError

TEXTS = ["the old house", "тихо, вечер", "a letter"]
CONTENTS = {
    "a.txt": "\n".join(TEXTS).encode(),
    "a.txt.gz": gzip.compress("\n".join(TEXTS).encode()),
    "a.jsonl": "\n".join(f'{{"text": "{text}"}}' for text in TEXTS).encode(),
    "a.csv": ("text\n" + "\n".join(f'"{text}"' for text in TEXTS)).encode(),
}


@pytest.fixture
def store():
    found = fsspec.filesystem("memory")
    yield found
    found.store.clear()


@pytest.mark.parametrize("name", CONTENTS)
def test_files_of_a_store_are_read_as_files_here(store, name):
    store.pipe(f"/bucket/{name}", CONTENTS[name])
    source = TextSource(f"memory://bucket/{name}")
    check_source(source)
    assert list(read_documents(source)) == TEXTS


def test_parquet_of_a_store(store):
    with store.open("/bucket/a.parquet", "wb") as file:
        parquet.write_table(pa.table({"text": TEXTS, "n": [1, 2, 3]}), file)
    source = TextSource("memory://bucket/a.parquet")
    check_source(source)
    assert list(read_documents(source)) == TEXTS
    with pytest.raises(DataError, match="the column 'n' holds int64, not strings"):
        check_source(TextSource(source.path, column="n"))


def test_a_local_file_may_be_named_by_its_protocol(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(CONTENTS["a.txt.gz"])
    source = TextSource(f"file://{tmp_path}/a.txt.gz")
    check_source(source)
    assert list(read_documents(source)) == TEXTS


def test_other_content_has_another_fingerprint(store):
    source = TextSource("memory://bucket/a.txt")
    store.pipe("/bucket/a.txt", b"one text")
    before = corpus_fingerprint([source])
    assert corpus_fingerprint([source]) == before
    store.pipe("/bucket/a.txt", b"another text")
    assert corpus_fingerprint([source]) != before


def refused(path, pattern):
    with pytest.raises(DataError, match=pattern):
        check_source(TextSource(path))


def test_what_cannot_be_read_says_why(store):
    refused("memory://bucket/none.txt", "memory://bucket/none.txt cannot be read: .*local file")
    refused("memory://bucket/a.pdf", "a.pdf ends in .pdf; known are txt")
    refused("nowhere://bucket/a.txt", "cannot be read: Protocol not known: nowhere")
    store.pipe("/bucket/a.txt.gz", b"no gzip")
    refused("memory://bucket/a.txt.gz", "ends in .gz but is no gzip file")
    store.pipe("/bucket/a.parquet", b"PAR1")
    refused("memory://bucket/a.parquet", "memory://bucket/a.parquet cannot be read after row 0")
    store.pipe("/bucket/b.txt", "плохо".encode("cp1251"))
    refused("memory://bucket/b.txt", "line 1 of memory://bucket/b.txt is not UTF-8")


def test_a_missing_package_is_named(monkeypatch):
    def missing(*path, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    refused("s3://bucket/a.txt", "Install s3fs to access S3; install that package, or give a local")


def test_a_configuration_of_a_hub_dataset_is_streamed(monkeypatch):
    given = []

    def load(*names, **options):
        given.append((names, options))
        return datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = TextSource("owner/texts", name="sample-10BT", split="validation")
    assert list(read_documents(source)) == TEXTS
    assert given == [(("owner/texts", "sample-10BT"), {"split": "validation", "streaming": True})]
    assert corpus_fingerprint([source]) != corpus_fingerprint([TextSource("owner/texts")])
