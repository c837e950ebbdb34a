"""Documents become sequences of pieces of one length at most, kept in a memory-mapped table.

Packed, documents follow one another with a separator between them and no
padding is ever computed on; unpacked, each document is a sequence of its own
and what is longer is cut and counted.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from filelock import FileLock
from transformers import PreTrainedTokenizerFast

from ..data.corpus import corpus_fingerprint, split_documents
from ..data.text import TextSource, read_documents
from ..errors import DataError
from ..files import write_text
from .frame import Frame, frame_of

_DOCUMENTS_AT_ONCE = 1000
_ROWS_AT_ONCE = 1000
_TABLE = "table.arrow"
_FEATURES = datasets.Features(
    {
        "input_ids": datasets.Sequence(datasets.Value("int32")),
        "continues": datasets.Sequence(datasets.Value("bool")),
    }
)


_COUNTED = ("pieces", "cut_pieces", "utf8_bytes")
Rows = Callable[[Iterator[str], dict[str, int]], Iterator[dict[str, Any]]]


class HeldOut(NamedTuple):
    """Which documents are read: the held-out ones if ``wanted``, else all others."""

    wanted: bool
    share: float


@dataclass(frozen=True)
class Sequences:
    """The sequences of one source.

    Attributes:
        table: Columns ``input_ids`` (special tokens included) and
            ``continues``: True at a piece that goes on with the word before it.
        pieces: Pieces in it, special tokens included.
        cut_pieces: Pieces of the documents that are in no sequence.
        utf8_bytes: Size of the documents.
        counts: What else was counted.
    """

    table: datasets.Dataset
    pieces: int
    cut_pieces: int
    utf8_bytes: int
    counts: Mapping[str, int] = field(default_factory=dict)


def _frame_identity(frame: Frame) -> list[int]:
    return [*frame.first, *(frame.last or (-1, frame.between))]


def tokenize_source(
    source: TextSource,
    tokenizer: PreTrainedTokenizerFast,
    *,
    length: int,
    packed: bool,
    held_out: HeldOut,
    cache: Path,
) -> Sequences:
    """The sequences of a source, from the cache where an equal run has left them.

    Raises:
        DataError: The source cannot be read, or gives no sequence.
    """
    frame = frame_of(tokenizer)
    first, last = list(frame.first), list(frame.last)

    def rows(documents: Iterator[str], count: dict[str, int]) -> Iterator[dict[str, Any]]:
        words = _segment(documents, tokenizer, count)
        cut = _pack if packed else _truncate
        for pieces, continues in cut(words, length - len(first) - len(last), frame.between, count):
            count["pieces"] += len(first) + len(pieces) + len(last)
            yield {
                "input_ids": [*first, *pieces, *last],
                "continues": [False] * len(first) + continues + [False] * len(last),
            }

    identity = [tokenizer_hash(tokenizer), _frame_identity(frame), length, packed]
    return cached_table(
        source, rows, _FEATURES, identity=identity, length=length, held_out=held_out, cache=cache
    )


def tokenizer_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """Names what a tokenizer does to text."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def cached_table(
    source: TextSource,
    rows: Rows,
    features: datasets.Features,
    *,
    identity: Sequence[Any],
    length: int,
    held_out: HeldOut,
    cache: Path,
) -> Sequences:
    """The table that ``rows`` makes of a source's documents, built where the cache lacks it.

    Args:
        source: Where documents come from.
        rows: Makes the rows; counts ``pieces``, ``cut_pieces`` and ``utf8_bytes``, and
            what else is to be known.
        features: Of the rows.
        identity: What else decides them, as JSON.
        length: Pieces of a sequence at most, for the message that there is none.
        held_out: Which documents.
        cache: Folder of all tables.

    Raises:
        DataError: The source cannot be read, or gives no sequence.
    """
    name = json.dumps([_TABLE, corpus_fingerprint([source]), *identity, *held_out])
    folder = cache / hashlib.sha256(name.encode()).hexdigest()[:32]
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # other processes wait, and find it built
        if not (folder / "facts.json").is_file():
            _build(source, rows, features, folder, length, held_out)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    table = datasets.Dataset.from_file(str(folder / facts.pop("table"))).with_format("numpy")
    return Sequences(table, **{name: facts.pop(name) for name in _COUNTED}, counts=facts)


def _build(
    source: TextSource,
    rows: Rows,
    features: datasets.Features,
    folder: Path,
    length: int,
    held_out: HeldOut,
) -> None:
    count = dict.fromkeys(_COUNTED, 0)

    def made() -> Iterator[dict[str, Any]]:
        documents = read_documents(source)
        wanted = split_documents(documents, share=held_out.share, held_out=held_out.wanted)
        yield from rows(wanted, count)

    folder.mkdir(parents=True, exist_ok=True)
    if not _write_table(made(), features.arrow_schema, folder / _TABLE):
        side = "held-out" if held_out.wanted else "training"
        raise DataError(
            f"{source.path} gives no {side} sequence of {length} pieces"
            f" ({count['utf8_bytes']} bytes read, {held_out.share:.2%} of the documents held out);"
            " give more text, a smaller `length`, or another `held_out`"
        )
    # Written last: a folder without it was left half-way and is built again.
    write_text(folder / "facts.json", json.dumps({"table": _TABLE, **count}))


def _write_table(rows: Iterator[dict[str, Any]], schema: pa.Schema, path: Path) -> int:
    """Write rows of lists of numbers as Arrow's stream format, some at once; how many."""
    written = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            columns = [_column([row[field.name] for row in some], field.type) for field in schema]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            written += len(some)
    return written


def _column(lists: list[Any], kind: pa.ListType) -> pa.ListArray:
    lengths = [len(numbers) for numbers in lists]
    values = np.concatenate([np.asarray(n, kind.value_type.to_pandas_dtype()) for n in lists])
    offsets = pa.array(np.cumsum([0, *lengths], dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values, kind.value_type))


Pieces = tuple[list[int], list[bool]]


def _segment(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerFast, count: dict[str, int]
) -> Iterator[Pieces]:
    documents = iter(documents)
    while some := list(islice(documents, _DOCUMENTS_AT_ONCE)):
        count["utf8_bytes"] += sum(len(text.encode()) for text in some)
        for encoding in tokenizer.backend_tokenizer.encode_batch(some, add_special_tokens=False):
            words = encoding.word_ids
            continues = [
                here is not None and here == before
                for here, before in zip(words, [None, *words], strict=False)
            ]
            yield encoding.ids, continues


def _pack(
    documents: Iterable[Pieces], room: int, separator: int, count: dict[str, int]
) -> Iterator[Pieces]:
    ids: list[int] = []
    continues: list[bool] = []
    for piece_ids, piece_continues in documents:
        if ids:
            ids.append(separator)
            continues.append(False)
        ids += piece_ids
        continues += piece_continues
        while len(ids) >= room:
            yield ids[:room], continues[:room]
            ids, continues = ids[room:], continues[room:]
    count["cut_pieces"] += len(ids)


def _truncate(
    documents: Iterable[Pieces], room: int, separator: int, count: dict[str, int]
) -> Iterator[Pieces]:
    for ids, continues in documents:
        if ids:
            count["cut_pieces"] += max(0, len(ids) - room)
            yield ids[:room], continues[:room]
