"""Files are identified by their contents, and read again only if they may have changed."""

import os

import pytest

from limbeck.system import fingerprints as contents
from limbeck.system.files import checksum
from limbeck.system.fingerprints import content_of


@pytest.fixture
def reads(monkeypatch, tmp_path):
    """The files that were read; all are old enough to be remembered, in a separate cache."""
    found = []

    def counted(*files):
        found.extend(file.name for file in files)
        return checksum(*files)

    monkeypatch.setattr(contents, "checksum", counted)
    monkeypatch.setattr(contents, "_SETTLED", -(10**12))
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    contents._in_state.cache_clear()
    return found


def test_an_unchanged_file_is_read_once(tmp_path, reads):
    file = tmp_path / "a.txt"
    file.write_text("one")
    first = content_of(file)
    contents._in_state.cache_clear()  # as in another process
    assert content_of(file) == first == checksum(file) and reads == ["a.txt"]
    other = tmp_path / "b.txt"
    other.write_text("two")
    assert content_of(file, other) == checksum(file, other) != first


def test_a_touched_file_has_the_same_hash(tmp_path, reads):
    file = tmp_path / "a.txt"
    file.write_text("one")
    first = content_of(file)
    os.utime(file, (1, 1))
    assert content_of(file) == first and reads == ["a.txt", "a.txt"]


def test_another_file_of_the_same_size_and_time_is_noticed(tmp_path, reads):
    file, other = tmp_path / "a.txt", tmp_path / "b.txt"
    for some, text in ((file, "one"), (other, "two")):
        some.write_text(text)
        os.utime(some, (1000, 1000))
    first = content_of(file)
    other.replace(file)
    assert file.stat().st_mtime == 1000 and content_of(file) == checksum(file) != first


def test_a_file_that_is_too_new_is_not_remembered(tmp_path, reads, monkeypatch):
    """It could be written again within one tick of the file system's clock."""
    monkeypatch.setattr(contents, "_SETTLED", 10**18)
    file = tmp_path / "a.txt"
    for text in ("one", "two"):
        file.write_text(text)
        assert content_of(file) == checksum(file)
    assert reads == ["a.txt", "a.txt"]


@pytest.mark.parametrize("harm", [b"", b"\xff", b"x" * 63])
def test_a_broken_or_unwritable_cache_entry_does_no_harm(tmp_path, reads, harm):
    file = tmp_path / "a.txt"
    file.write_text("one")
    content_of(file)
    [note] = (tmp_path / "cache" / "contents").iterdir()
    note.write_bytes(harm)
    contents._in_state.cache_clear()
    assert content_of(file) == checksum(file)
    note.unlink()
    note.parent.rmdir()
    note.parent.write_text("a file where the folder should be")
    contents._in_state.cache_clear()
    assert content_of(file) == checksum(file)
