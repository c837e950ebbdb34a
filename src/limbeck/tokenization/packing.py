"""Documents become sequences of limited length.

With packing, documents are concatenated with a separator between them, so no padding is ever
computed. Without packing, each document is one sequence; longer documents are truncated, and the
removed tokens are counted.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from jaxtyping import Int64, Shaped
from numpy import ndarray
from transformers import PreTrainedTokenizerFast

from ..data.text import TextSource
from .frame import Frame, frame_of
from .plain_text import count_spelled, plain_tokenizer
from .post_processor import own_frame
from .stored_table import HeldOut, Row, RowMaker, Sequences, cached_table
from .text_bytes import token_bytes
from .words import continues_word, has_unspaced, has_words

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
_Columns = Mapping[str, Shaped[ndarray, " tokens"]]


def tokenize_source(
    source: TextSource,
    tokenizer: PreTrainedTokenizerFast,
    *,
    length: int,
    packed: bool,
    held_out: HeldOut,
    cache: Path,
    processes: int = 1,
) -> Sequences:
    """The sequences of a source, from the cache if an equal run has stored them there.

    Args:
        source: The source of the documents.
        tokenizer: Its own frame stands around each sequence.
        length: Largest number of tokens in a sequence.
        packed: Whether documents are joined.
        held_out: Which documents are read.
        cache: The folder of all tables.
        processes: How many tokenize.

    Raises:
        DataError: The source cannot be read, or yields no sequence.
    """
    maker = _Packing if packed else _Truncation
    identity = [tokenizer_hash(tokenizer), _frame_identity(frame_of(tokenizer)), length, packed]
    return cached_table(
        source,
        maker(tokenizer, length, measured=held_out.wanted),
        datasets.Features({**_FEATURES, **(_MEASURED if held_out.wanted else {})}),
        identity=[*identity, "words of all scripts"],
        length=length,
        held_out=held_out,
        cache=cache,
        processes=processes,
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


def _frame_identity(frame: Frame) -> list[int]:
    return [*frame.first, *(frame.last or (-1, frame.between))]


class _Documents(NamedTuple):
    """Tokenized documents, one after another.

    Attributes:
        columns: Of their tokens: ``input_ids``; ``continues``, True at a token that continues the
            word before it; and ``utf8_bytes`` and ``visible_bytes``, the bytes of text of each
            token, with and without white space, where they are measured.
        lengths: The number of tokens of each document.
        utf8_bytes: Size of the documents.
        spelled: Number of special tokens that they spell.
    """

    columns: _Columns
    lengths: Int64[ndarray, " documents"]
    utf8_bytes: int
    spelled: int


def _tokenized(
    tokenizer: PreTrainedTokenizerFast, measured: bool, documents: list[str]
) -> _Documents:
    encoded = plain_tokenizer(tokenizer).encode_batch(documents, add_special_tokens=False)
    ids, words = [one.ids for one in encoded], [one.word_ids for one in encoded]
    lengths = np.array([len(numbers) for numbers in ids], np.int64)
    # Tokens of no word are no number here, which does not equal itself.
    numbers = np.fromiter(
        (np.nan if word is None else word for word in chain.from_iterable(words)), np.float64
    )
    continues = np.diff(numbers, prepend=np.nan) == 0
    starts = np.cumsum(lengths) - lengths
    continues[starts[lengths > 0]] = False
    at_spaces = not has_words(tokenizer.backend_tokenizer)
    for text, one, start in zip(documents, encoded, starts.tolist(), strict=True):
        if at_spaces or has_unspaced(text):
            own = continues_word(text, one, at_spaces=at_spaces)
            continues[start : start + len(own)] = own
    columns = {"input_ids": np.fromiter(chain.from_iterable(ids), np.int32), "continues": continues}
    if measured:
        for name, spaces in (("utf8_bytes", True), ("visible_bytes", False)):
            pairs = zip(documents, encoded, strict=True)
            sizes = [token_bytes(text, encoding, spaces=spaces) for text, encoding in pairs]
            columns[name] = np.concatenate(sizes).astype(np.int32)
    size = sum(len(text.encode()) for text in documents)
    return _Documents(columns, lengths, size, count_spelled(tokenizer, documents))


class _Rows(RowMaker):
    """What both ways to make rows have in common."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, length: int, *, measured: bool) -> None:
        super().__init__()
        self._tokenizer, self._measured = tokenizer, measured
        self._frame = frame_of(tokenizer)
        self._room = length - len(self._frame.first) - len(self._frame.last)
        names = [*_FEATURES, *(_MEASURED if measured else ())]
        self._held: _Columns = {name: np.zeros(0, np.int32) for name in names}

    @property
    def tokenize(self) -> Callable[[list[str]], _Documents]:
        return partial(_tokenized, self._tokenizer, self._measured)

    @property
    def held(self) -> _Columns:
        return self._held

    def hold(self, held: Mapping[str, Any]) -> None:
        self._held = {name: np.array(values, np.int32) for name, values in held.items()}

    def _read(self, documents: _Documents) -> None:
        self.count["utf8_bytes"] += documents.utf8_bytes
        self.count["spelled"] += documents.spelled

    def _framed(self, rows: Mapping[str, Shaped[ndarray, "rows tokens"]]) -> list[Row]:
        """Rows of one length with the special tokens around them, which are no text."""
        framed = []
        for name, values in rows.items():
            marks = (self._frame.first, self._frame.last)
            ends = [
                np.tile(np.array(mark, np.int32) * (name == "input_ids"), (len(values), 1))
                for mark in marks
            ]
            framed.append(np.concatenate([ends[0], values, ends[1]], axis=1))
        self.count["tokens"] += framed[0].size
        return [dict(zip(rows, row, strict=True)) for row in zip(*framed, strict=True)]


class _Packing(_Rows):
    """Documents are concatenated, with a separator between them, and split at full sequences."""

    def add(self, tokenized: _Documents) -> list[Row]:
        self._read(tokenized)
        stream = self._stream(tokenized)
        full = len(stream["input_ids"]) // self._room * self._room
        self._held = {name: values[full:] for name, values in stream.items()}
        return self._framed({name: v[:full].reshape(-1, self._room) for name, v in stream.items()})

    def _stream(self, documents: _Documents) -> _Columns:
        """What is held and the documents, with separators; a row does not begin with one."""
        filled = len(self._held["input_ids"])
        places, start = [], 0
        for length in documents.lengths.tolist():
            if filled:
                places.append(start)
            filled = (filled + (filled > 0) + length) % self._room
            start += length
        between = {"input_ids": self._frame.between}
        return {
            name: np.concatenate([self._held[name], np.insert(v, places, between.get(name, 0))])
            for name, v in documents.columns.items()
        }

    def rest(self, *, any_row: bool) -> list[Row]:
        if len(self._held["input_ids"]) and not any_row:
            return self._framed({name: v[None] for name, v in self._held.items()})  # one, shorter
        self.count["truncated_tokens"] += len(self._held["input_ids"])
        return []


class _Truncation(_Rows):
    """Each document is a sequence; nothing is ever held."""

    def add(self, tokenized: _Documents) -> list[Row]:
        self._read(tokenized)
        rows: list[Row] = []
        start = 0
        for length in tokenized.lengths.tolist():
            if length:
                self.count["truncated_tokens"] += max(0, length - self._room)
                here = slice(start, start + min(length, self._room))
                rows += self._framed({n: v[None, here] for n, v in tokenized.columns.items()})
            start += length
        return rows

    def rest(self, *, any_row: bool) -> list[Row]:
        return []
