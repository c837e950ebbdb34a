"""Memory-mapped tables of token sequences: made once, by one or several processes, and resumed.

Documents are read here, tokenized in chunks by other processes, and packed and stored here, so
that the table is the same, byte for byte, whatever the number of processes.
"""

import hashlib
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from filelock import FileLock

from ..data.corpus import corpus_fingerprint, held_out_below, is_held_out
from ..data.text import TextSource, read_documents
from ..errors import DataError
from ..system.files import write_text
from ..system.pool import in_order
from ..system.progress import told

_DOCUMENTS_AT_ONCE, _CHARACTERS_AT_ONCE = 1000, 4_000_000
_ROWS_AT_ONCE = 1000
_SECONDS_BETWEEN_STATES = 30.0
_TABLE, _FACTS, _STATE = "table.arrow", "facts.json", "state.json"
_END = b"\xff\xff\xff\xff\0\0\0\0"  # of Arrow's stream format
_BYTES = "table_bytes"
_COUNTED = ("tokens", "truncated_tokens", "utf8_bytes", "spelled")
Row = Mapping[str, Any]


class HeldOut(NamedTuple):
    """Which documents are read: the held-out ones if ``wanted``, else all others."""

    wanted: bool
    share: float


@dataclass(frozen=True)
class Sequences:
    """The sequences of one source.

    Attributes:
        table: Columns ``input_ids`` (special tokens included) and ``continues``: True at a token
            that continues the word before it.
        tokens: Number of tokens in the table, special tokens included.
        truncated_tokens: Number of tokens of the documents that are in no sequence.
        utf8_bytes: Size of the documents.
        spelled: Number of special tokens that the documents spell, which are read as plain text.
        counts: Other counts of what made the rows.
    """

    table: datasets.Dataset
    tokens: int
    truncated_tokens: int
    utf8_bytes: int
    spelled: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


class RowMaker(ABC):
    """How documents become the rows of a table.

    Attributes:
        count: The counts so far, by name.
    """

    def __init__(self, *counted: str) -> None:
        self.count = dict.fromkeys((*_COUNTED, *counted), 0)

    @property
    @abstractmethod
    def tokenize(self) -> Callable[[list[str]], Any]:
        """A function without a state, for other processes: documents become tokens."""

    @abstractmethod
    def add(self, tokenized: Any) -> list[Row]:
        """The rows that some tokenized documents fill; what is left is held."""

    @abstractmethod
    def rest(self, *, any_row: bool) -> list[Row]:
        """The rows of what is still held; ``any_row`` says whether there was any row before."""

    @property
    @abstractmethod
    def held(self) -> Mapping[str, Any]:
        """What is held, as arrays of numbers by name."""

    @abstractmethod
    def hold(self, held: Mapping[str, Any]) -> None:
        """Hold what `held` has returned before, as lists."""


def cached_table(
    source: TextSource,
    maker: RowMaker,
    features: datasets.Features,
    *,
    identity: Sequence[Any],
    length: int,
    held_out: HeldOut,
    cache: Path,
    processes: int = 1,
) -> Sequences:
    """A table of rows made from a source's documents; built if the cache does not have it.

    Args:
        source: The source of the documents.
        maker: Makes the rows, and counts what it reads.
        features: The columns of the rows.
        identity: Everything else that the rows depend on, as JSON values.
        length: Largest number of tokens in a sequence, for error messages.
        held_out: Which documents are read.
        cache: The folder of all tables.
        processes: How many tokenize; the table is the same for any number.

    Raises:
        DataError: The source cannot be read, or yields no sequence.
    """
    name = json.dumps([_TABLE, _COUNTED, corpus_fingerprint([source]), *identity, *held_out])
    folder = cache / hashlib.sha256(name.encode()).hexdigest()[:32]
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # other processes wait until it is built
        if not _is_whole(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _FACTS).unlink(missing_ok=True)
            try:
                _build(source, maker, features.arrow_schema, folder, length, held_out, processes)
            except BrokenProcessPool as error:
                raise DataError(
                    f"one of {processes} processes that tokenize {source.path} has died, perhaps"
                    " for want of memory; give a smaller data.num_proc. A script of your own needs"
                    " `if __name__ == '__main__':` around what it runs"
                ) from error
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    facts.pop(_BYTES, None)
    table = datasets.Dataset.from_file(str(folder / facts.pop("table"))).with_format("numpy")
    return Sequences(table, **{name: facts.pop(name) for name in _COUNTED}, counts=facts)


def _is_whole(folder: Path) -> bool:
    """Whether a table is there as it was built; what cleans disks may take the table alone."""
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        size = (folder / facts["table"]).stat().st_size
    except FileNotFoundError:
        return False
    return bool(size == facts.get(_BYTES, size))


def _build(
    source: TextSource,
    maker: RowMaker,
    schema: pa.Schema,
    folder: Path,
    length: int,
    held_out: HeldOut,
    processes: int,
) -> None:
    below = held_out_below(read_documents(source), share=held_out.share)
    file = folder / _TABLE
    file.touch()
    with file.open("r+b") as opened:
        table = _Table(opened, schema, folder / _STATE, maker)
        documents = told(
            read_documents(source), f"tokenizing {Path(source.path).name}", "documents"
        )
        chunks = _chunks(islice(documents, table.documents, None))
        tokenize = partial(_tokenized, maker.tokenize, below, held_out.wanted)
        for number, tokenized in in_order(tokenize, chunks, processes=processes):
            table.add(number, [] if tokenized is None else maker.add(tokenized))
        table.end()
    if not table.rows:
        side = "held-out" if held_out.wanted else "training"
        raise DataError(
            f"{source.path} gives no {side} sequence of {length} tokens"
            f" ({maker.count['utf8_bytes']} bytes read, {held_out.share:.2%} of the documents held"
            f" out); give more text, or a {'larger' if held_out.wanted else 'smaller'}"
            " held_out.fraction"
        )
    # Written last: a folder without this file is incomplete, and is built on.
    facts = {"table": _TABLE, _BYTES: file.stat().st_size, **maker.count}
    write_text(folder / _FACTS, json.dumps(facts))
    (folder / _STATE).unlink(missing_ok=True)


def _chunks(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents together, so many that it takes longer to tokenize than to send them."""
    some: list[str] = []
    size = 0
    for document in documents:
        some.append(document)
        size += len(document)
        if len(some) == _DOCUMENTS_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some


def _tokenized(
    tokenize: Callable[[list[str]], Any], below: int, wanted: bool, documents: list[str]
) -> tuple[int, Any]:
    """How many documents were read, and the tokens of those on one side; None where none is."""
    here = [text for text in documents if is_held_out(text, below=below) == wanted]
    return len(documents), tokenize(here) if here else None


class _Table:
    """A table in Arrow's stream format while it is written, from where an earlier process was.

    The state beside it says how much of the file is whole, and what was held then.

    Attributes:
        documents: How many documents of the source have been read.
        rows: How many rows they have given.
    """

    def __init__(self, file: IO[bytes], schema: pa.Schema, state: Path, maker: RowMaker) -> None:
        self._file, self._schema, self._state, self._maker = file, schema, state, maker
        self._waiting: list[Row] = []
        self._saved = time.monotonic()
        self.documents = self.rows = 0
        if not self._resumed():
            file.seek(0)
            file.truncate()
            file.write(schema.serialize())

    def _resumed(self) -> bool:
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        if self._file.seek(0, os.SEEK_END) < state["bytes"]:
            return False  # the table was lost after its state was stored
        self._file.truncate(state["bytes"])
        self._file.seek(state["bytes"])
        self.documents, self.rows = state["documents"], state["rows"]
        self._maker.count |= state["count"]
        self._maker.hold(state["held"])
        return True

    def add(self, documents: int, rows: list[Row]) -> None:
        """Add the rows that the next documents have given."""
        self.documents += documents
        self._waiting += rows
        if len(self._waiting) >= _ROWS_AT_ONCE:
            self._write()
            if time.monotonic() - self._saved >= _SECONDS_BETWEEN_STATES:
                self._save()

    def end(self) -> None:
        """Add what is still held, and end the table."""
        any_row = self.rows + len(self._waiting) > 0
        self._waiting += self._maker.rest(any_row=any_row)
        if self._waiting:
            self._write()
        self._file.write(_END)

    def _write(self) -> None:
        columns = [_column([row[f.name] for row in self._waiting], f.type) for f in self._schema]
        self._file.write(pa.record_batch(columns, schema=self._schema).serialize())
        self.rows += len(self._waiting)
        self._waiting = []

    def _save(self) -> None:
        """Store the state; no row is waiting."""
        self._file.flush()
        os.fsync(self._file.fileno())
        held = {name: np.asarray(values).tolist() for name, values in self._maker.held.items()}
        state = {"bytes": self._file.tell(), "documents": self.documents, "rows": self.rows}
        write_text(self._state, json.dumps({**state, "count": self._maker.count, "held": held}))
        self._saved = time.monotonic()


def _column(lists: list[Any], kind: pa.ListType) -> pa.ListArray:
    lengths = [len(numbers) for numbers in lists]
    values = np.concatenate([np.asarray(n, kind.value_type.to_pandas_dtype()) for n in lists])
    offsets = pa.array(np.cumsum([0, *lengths], dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values, kind.value_type))
