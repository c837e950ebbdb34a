"""Rows as arrays: read by a tokenizer, batched by length, padded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from numbers import Integral
from typing import Any

import numpy as np
from numpy import ndarray

from ..data.words import words_of
from ..errors import ExportError
from ..evaluation.examples import Reading
from ..evaluation.tasks import Example
from ..run.reader import Reader
from .arrays import Feed, Forward

Given = str | tuple[str] | tuple[str, str] | list[str]


def given_texts(texts: Iterable[Any]) -> list[Any]:
    """The texts of a call as a list.

    Args:
        texts: A list, or what else holds several in an order.

    Raises:
        ExportError: It is one text, or holds no texts.
    """
    if isinstance(texts, str):
        raise ExportError(
            f"{texts!r:.60} is one text, and a list of texts is needed; put it in a list"
        )
    if isinstance(texts, bytes | Mapping | Set) or not isinstance(texts, Iterable):
        raise ExportError(f"{texts!r:.60} is given, and a list of texts is needed")
    return list(texts)


def check_batch_size(size: int) -> None:
    """See that batches have texts.

    Raises:
        ExportError: They would not.
    """
    if not isinstance(size, Integral) or size < 1:
        raise ExportError(f"batch_size is {size!r}; give a whole number of 1 or more")


def check_text(given: Any) -> None:
    """See that what is given is one text.

    Raises:
        ExportError: It is no string, or has letters that no tokenizer can read.
    """
    if not isinstance(given, str):
        raise ExportError(f"{given!r:.60} is given as a text, and a string is needed")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise ExportError(
            f"{given!r:.60} has half a letter ({given[error.start]!r}, a lone surrogate), which is"
            " no text; replace it: text.encode('utf-8', 'replace').decode()"
        ) from None


def example_of(given: Given, *, of_words: bool = False) -> Example:
    """A text, a pair of texts, or the words of a text as a row.

    Args:
        given: A text or a pair; of words a list of them, or a text that is split into words.
        of_words: Whether the model says something of each word.

    Raises:
        ExportError: It is none of these.
    """
    if isinstance(given, str):
        check_text(given)
        return Example(words=words_of(given)) if of_words else Example(text=given)
    strings = isinstance(given, list | tuple) and all(isinstance(one, str) for one in given)
    for text in given if strings else ():
        check_text(text)
    if of_words:
        if isinstance(given, tuple) or not strings:
            raise ExportError(
                f"{given!r:.60} is given to a tagger, which needs a list of words, or a text"
            )
        return Example(words=tuple(given))
    if strings and len(given) == 2:
        return Example(text=given[0], text_pair=given[1])
    if strings and len(given) == 1 and isinstance(given, tuple):
        return Example(text=given[0])
    raise ExportError(
        f"{given!r:.60} is given as a text, and a string is needed, or a tuple or list of two"
        " strings as a pair of texts"
    )


def feed_of(readings: Sequence[Reading], padding: int) -> Feed:
    """Readings as int64 arrays [batch, tokens]; padding stands at the end.

    Args:
        readings: One at least.
        padding: The id of the padding token.
    """
    shape = len(readings), max(len(one.ids) for one in readings)
    ids, mask, types = np.full(shape, padding), np.zeros(shape, int), np.zeros(shape, int)
    for row, one in enumerate(readings):
        ids[row, : len(one.ids)], mask[row, : len(one.ids)] = one.ids, 1
        types[row, : len(one.types)] = one.types
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def batches_of(readings: Sequence[Reading], padding: int, *, size: int) -> Iterator[Feed]:
    """Readings of similar length as arrays, the longest first.

    Args:
        readings: In any order.
        padding: The id of the padding token.
        size: Readings at once.
    """
    for numbers in by_length(readings, size):
        yield feed_of([readings[number] for number in numbers], padding)


def by_length(readings: Sequence[Reading], size: int) -> Iterator[list[int]]:
    """The numbers of readings in batches, the longest first: what does not fit fails at once."""
    order = sorted(range(len(readings)), key=lambda number: -len(readings[number].ids))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def outputs_of(
    forward: Forward, reader: Reader, readings: Sequence[Reading], *, size: int
) -> list[ndarray]:
    """What a model gives for each reading, without padding.

    Args:
        forward: Of torch or of a file.
        reader: Knows the id of padding.
        readings: In any order.
        size: Readings at once.

    Returns:
        For each reading an array [tokens, width], or [width] where a text has one.
    """
    found: list[ndarray] = [np.empty(0)] * len(readings)
    padding = reader.tokenizer.pad_token_id or 0
    for numbers in by_length(readings, size):
        output = forward(feed_of([readings[number] for number in numbers], padding))
        for row, number in zip(output, numbers, strict=True):
            found[number] = row[: len(readings[number].ids)] if row.ndim == 2 else row
    return found


def rows_of_words(output: ndarray, reading: Reading, words: int) -> ndarray:
    """What a model gives for each word, [words, width]; NaN where nothing of a word was read.

    Args:
        output: For each token, [tokens, width].
        reading: The same tokens.
        words: Of the text.
    """
    found = np.full((words, output.shape[-1]), np.nan, output.dtype)
    begins = np.array(reading.begins)
    found[begins[begins >= 0]] = output[begins >= 0]
    return found
