"""Tables are the same for any number of processes, and wherever they were interrupted."""

from pathlib import Path

import numpy as np
import pytest
from conftest import make_text, make_tokenizer

from limbeck.data.text import TextSource
from limbeck.errors import DataError
from limbeck.tokenization import stored_table
from limbeck.tokenization.packing import tokenize_source
from limbeck.tokenization.stored_table import HeldOut
from limbeck.tokenization.two_tokenizations import tokenize_twice

LENGTH = 16
# Learned once: a vocabulary that is learned again may differ where tokens are equally frequent.
WORDS, BYTES = make_tokenizer(), make_tokenizer("byte_bpe", 150)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(stored_table, "_DOCUMENTS_AT_ONCE", 7)
    monkeypatch.setattr(stored_table, "_ROWS_AT_ONCE", 10)
    monkeypatch.setattr(stored_table, "_SECONDS_BETWEEN_STATES", 0.0)


@pytest.fixture
def source(tmp_path):
    # Documents without a token, of one token, longer than a sequence, and those of held-out text.
    lines = [*make_text(150), "\u200b", "the", "\u200b", " ".join(make_text(20, seed=3)), "house"]
    order = np.random.default_rng(0).permutation(len(lines))
    file = tmp_path / "text.txt"
    file.write_text("\n".join(lines[number] for number in order), encoding="utf-8")
    return TextSource(str(file))


def once(source, cache, *, packed=True, wanted=False, share=0.1, processes=1):
    return tokenize_source(
        source,
        WORDS,
        length=LENGTH,
        packed=packed,
        held_out=HeldOut(wanted, share),
        cache=cache,
        processes=processes,
    )


def twice(source, cache, *, packed=True, wanted=False, share=0.1, processes=1):
    return tokenize_twice(
        source,
        WORDS,
        BYTES,
        length=LENGTH,
        held_out=HeldOut(wanted, share),
        cache=cache,
        finest=not packed,
        processes=processes,
    )


def stored(cache):
    """The bytes of everything that was stored, locks aside."""
    files = (file for file in cache.rglob("*") if file.is_file() and file.suffix != ".lock")
    return {file.name: file.read_bytes() for file in files}


def sequences_by_plain_loops(documents, tokenizer):
    """What `packed` means, a token at a time."""
    room, rows, row = LENGTH - 2, [], []
    for text in documents:
        encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        if row:
            row.append((tokenizer.sep_token_id, False))
        before = None
        for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
            row.append((token, word is not None and word == before))
            before = word
        while len(row) >= room:
            rows, row = [*rows, row[:room]], row[room:]
    ends = [(tokenizer.cls_token_id, False)], [(tokenizer.sep_token_id, False)]
    return [[*ends[0], *row, *ends[1]] for row in rows], len(row)


def test_packed_sequences_are_those_of_plain_loops(source, tmp_path):
    found = once(source, tmp_path / "cache", share=0.0)
    lines = Path(source.path).read_text(encoding="utf-8").split("\n")
    documents = [text for line in lines if (text := line.strip())]
    rows, left = sequences_by_plain_loops(documents, WORDS)
    ours = zip(found.table["input_ids"], found.table["continues"], strict=True)
    assert [list(zip(ids.tolist(), flags.tolist(), strict=True)) for ids, flags in ours] == rows
    assert found.truncated_tokens == left and found.tokens == LENGTH * len(rows)


@pytest.mark.parametrize(("make", "wanted"), [(once, False), (twice, True)])
def test_several_processes_make_the_table_of_one(source, tmp_path, make, wanted):
    one = make(source, tmp_path / "one", wanted=wanted)
    two = make(source, tmp_path / "two", wanted=wanted, processes=2)
    assert stored(tmp_path / "one") == stored(tmp_path / "two")
    assert one.tokens == two.tokens > 0


@pytest.fixture
def interrupted(monkeypatch):
    """Makes a table until 110 documents have been read, as if Ctrl-C had come then."""

    def run(make, source, cache, **options):
        reading = stored_table.read_documents

        def first_ones(source):
            for number, text in enumerate(reading(source)):
                if number == 110:
                    raise KeyboardInterrupt
                yield text

        with monkeypatch.context() as patched:
            patched.setattr(stored_table, "read_documents", first_ones)
            with pytest.raises(KeyboardInterrupt):
                make(source, cache, **options)
        assert set(stored(cache)) == {"table.arrow", "state.json"}
        return next(cache.rglob("table.arrow"))

    return run


@pytest.mark.parametrize("make", [once, twice])
@pytest.mark.parametrize("packed", [True, False])
def test_an_interrupted_table_is_continued(
    source, tmp_path, monkeypatch, interrupted, make, packed
):
    make(source, tmp_path / "whole", packed=packed)
    table = interrupted(make, source, tmp_path / "broken", packed=packed)
    with table.open("ab") as file:
        file.write(b"what was not whole")
    work, read = stored_table._tokenized, []

    def counted(tokenize, below, wanted, documents):
        read.append(len(documents))
        return work(tokenize, below, wanted, documents)

    monkeypatch.setattr(stored_table, "_tokenized", counted)
    make(source, tmp_path / "broken", packed=packed)
    assert stored(tmp_path / "broken") == stored(tmp_path / "whole")
    assert 0 < sum(read) < 100  # of 155 documents


def test_a_state_without_its_table_is_not_believed(source, tmp_path, interrupted):
    once(source, tmp_path / "whole")
    interrupted(once, source, tmp_path / "broken").write_bytes(b"short")
    once(source, tmp_path / "broken")
    assert stored(tmp_path / "broken") == stored(tmp_path / "whole")


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_bytes(b"less")])
def test_a_table_that_was_taken_away_or_is_not_whole_is_built_again(source, tmp_path, harm):
    """As by what removes old files from a disk."""
    cache = tmp_path / "cache"
    once(source, cache)
    whole = stored(cache)
    harm(next(cache.rglob("*.arrow")))
    assert len(once(source, cache).table) > 0
    assert stored(cache) == whole


def test_a_process_that_dies_is_told(source, tmp_path, monkeypatch):
    def broken(function, items, *, processes):
        raise stored_table.BrokenProcessPool("gone")

    monkeypatch.setattr(stored_table, "in_order", broken)
    with pytest.raises(
        DataError, match="one of 2 processes that tokenize .* smaller data.num_proc"
    ):
        once(source, tmp_path, processes=2)
