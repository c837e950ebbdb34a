"""Documents become sequences of limited length, which are stored in a memory-mapped table.

With packing, documents are concatenated with a separator between them, so no padding is ever
computed. Without packing, each document is one sequence; longer documents are truncated, and the
removed tokens are counted.
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

from ..data.corpus import corpus_fingerprint, held_out_below, split_documents
from ..data.text import TextSource, read_documents
from ..errors import DataError
from ..system.files import write_text
from ..system.progress import told
from .frame import Frame, frame_of
from .plain_text import count_spelled, plain_tokenizer
from .post_processor import own_frame
from .text_bytes import token_bytes

_DOCUMENTS_AT_ONCE = 1000
_ROWS_AT_ONCE = 1000
_TABLE = "table.arrow"
_FEATURES = datasets.Features(
    {
        "input_ids": datasets.Sequence(datasets.Value("int32")),
        "continues": datasets.Sequence(datasets.Value("bool")),
    }
)


# Held-out text has two more columns: the bytes of text of each token.
_MEASURED = datasets.Features(
    dict.fromkeys(("utf8_bytes", "visible_bytes"), datasets.Sequence(datasets.Value("int32")))
)
_COUNTED = ("tokens", "truncated_tokens", "utf8_bytes", "spelled")
Rows = Callable[[Iterator[str], dict[str, int]], Iterator[dict[str, Any]]]


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
        counts: Other counts of the function that made the rows.
    """

    table: datasets.Dataset
    tokens: int
    truncated_tokens: int
    utf8_bytes: int
    spelled: int = 0
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
    """The sequences of a source, from the cache if an equal run has stored them there.

    Raises:
        DataError: The source cannot be read, or yields no sequence.
    """
    frame, measured = frame_of(tokenizer), held_out.wanted
    first, last = list(frame.first), list(frame.last)

    def rows(documents: Iterator[str], count: dict[str, int]) -> Iterator[dict[str, Any]]:
        words = _segment(documents, tokenizer, count, measured=measured)
        split = _pack if packed else _truncate
        for tokens in split(words, length - len(first) - len(last), frame.between, count):
            count["tokens"] += len(first) + len(tokens.input_ids) + len(last)
            framed = Tokens(
                [*first, *tokens.input_ids, *last],
                *([0] * len(first) + values + [0] * len(last) for values in tokens[1:]),
            )
            yield framed._asdict()

    features = datasets.Features({**_FEATURES, **(_MEASURED if measured else {})})
    identity = [tokenizer_hash(tokenizer), _frame_identity(frame), length, packed, "all bytes"]
    return cached_table(
        source, rows, features, identity=identity, length=length, held_out=held_out, cache=cache
    )


def tokenizer_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """A hash of what a tokenizer does to text: of its file, and of its special tokens.

    The special tokens are hashed only where they do not follow from the file.
    """
    backend, frame = tokenizer.backend_tokenizer, frame_of(tokenizer)
    known = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    others = sorted({*tokenizer.all_special_tokens} - known)
    does: str = backend.to_str()
    if others or own_frame(backend) is None or frame.between not in frame.last:
        does += json.dumps([others, frame])
    return hashlib.sha256(does.encode()).hexdigest()


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
    """A table of rows made from a source's documents; built if the cache does not have it.

    Args:
        source: The source of the documents.
        rows: Makes the rows, and counts ``tokens``, ``truncated_tokens``, ``utf8_bytes`` and
            anything else.
        features: The columns of the rows.
        identity: Everything else that the rows depend on, as JSON values.
        length: Largest number of tokens in a sequence, for error messages.
        held_out: Which documents are read.
        cache: The folder of all tables.

    Raises:
        DataError: The source cannot be read, or yields no sequence.
    """
    name = json.dumps([_TABLE, _COUNTED, corpus_fingerprint([source]), *identity, *held_out])
    folder = cache / hashlib.sha256(name.encode()).hexdigest()[:32]
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # other processes wait until it is built
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
        below = held_out_below(read_documents(source), share=held_out.share)
        documents = told(
            read_documents(source), f"tokenizing {Path(source.path).name}", "documents"
        )
        yield from rows(split_documents(documents, below=below, held_out=held_out.wanted), count)

    folder.mkdir(parents=True, exist_ok=True)
    if not _write_table(made(), features.arrow_schema, folder / _TABLE):
        side = "held-out" if held_out.wanted else "training"
        raise DataError(
            f"{source.path} gives no {side} sequence of {length} tokens"
            f" ({count['utf8_bytes']} bytes read, {held_out.share:.2%} of the documents held out);"
            f" give more text, or a {'larger' if held_out.wanted else 'smaller'} held_out.fraction"
        )
    # Written last: a folder without this file is incomplete and is built again.
    write_text(folder / "facts.json", json.dumps({"table": _TABLE, **count}))


def _write_table(rows: Iterator[dict[str, Any]], schema: pa.Schema, path: Path) -> int:
    """Write rows of lists of numbers in Arrow's stream format; returns the number of rows."""
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


class Tokens(NamedTuple):
    """Tokens with the columns of a table.

    Attributes:
        input_ids: Token ids.
        continues: 1 at a token that continues the word before it.
        utf8_bytes: UTF-8 bytes of text of each token; 0 where they are not measured.
        visible_bytes: The same without white space.
    """

    input_ids: list[int]
    continues: list[int]
    utf8_bytes: list[int]
    visible_bytes: list[int]

    def part(self, places: slice) -> "Tokens":
        """The tokens at some places."""
        return Tokens(*(values[places] for values in self))


def _segment(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    count: dict[str, int],
    *,
    measured: bool,
) -> Iterator[Tokens]:
    documents, plain = iter(documents), plain_tokenizer(tokenizer)
    while some := list(islice(documents, _DOCUMENTS_AT_ONCE)):
        count["utf8_bytes"] += sum(len(text.encode()) for text in some)
        count["spelled"] += count_spelled(tokenizer, some)
        encoded = plain.encode_batch(some, add_special_tokens=False)
        for text, encoding in zip(some, encoded, strict=True):
            words = encoding.word_ids
            continues = [
                int(here is not None and here == before)
                for here, before in zip(words, [None, *words], strict=False)
            ]
            nothing = [0] * len(words)
            whole = token_bytes(text, encoding, spaces=True).tolist() if measured else nothing
            seen = token_bytes(text, encoding, spaces=False).tolist() if measured else nothing
            yield Tokens(encoding.ids, continues, whole, seen)


def _pack(
    documents: Iterable[Tokens], room: int, separator: int, count: dict[str, int]
) -> Iterator[Tokens]:
    held, full = Tokens([], [], [], []), False
    for document in documents:
        if held.input_ids:
            for values, value in zip(held, (separator, 0, 0, 0), strict=True):
                values.append(value)
        for values, more in zip(held, document, strict=True):
            values += more
        while len(held.input_ids) >= room:
            yield held.part(slice(room))
            held, full = held.part(slice(room, None)), True
    if held.input_ids and not full:  # less text than a sequence holds gives one shorter sequence
        yield held
    else:
        count["truncated_tokens"] += len(held.input_ids)


def _truncate(
    documents: Iterable[Tokens], room: int, separator: int, count: dict[str, int]
) -> Iterator[Tokens]:
    for document in documents:
        if document.input_ids:
            count["truncated_tokens"] += max(0, len(document.input_ids) - room)
            yield document.part(slice(room))
