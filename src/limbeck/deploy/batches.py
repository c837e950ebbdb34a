"""Rows as arrays: read by a tokenizer, batched by length, padded."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy import ndarray

from ..evaluation.examples import Reading
from ..evaluation.tasks import Example
from ..run.task_batches import Reader
from .arrays import Feed, Forward

Given = str | tuple[str, str] | list[str]


def example_of(given: Given) -> Example:
    """A text, a pair of texts, or the words of a text as a row."""
    if isinstance(given, str):
        return Example(text=given)
    if isinstance(given, tuple):
        return Example(text=given[0], text_pair=given[1])
    return Example(words=tuple(given))


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
