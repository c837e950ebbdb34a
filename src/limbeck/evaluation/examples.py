"""Rows of a task as tokens: what a model reads of an example, and what it has to predict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..tokenization.frame import frame_of
from ..tokenization.padding import padded
from ..tokenization.plain_text import plain_tokenizer
from ..tokenization.post_processor import own_frame
from .tasks import Example, Task, TaskKind, labels_of, number_of

Span = tuple[int, int, int]
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Row:
    """An example as tokens.

    Attributes:
        tokens: Inputs of the model, by name.
        label: Number of the class, or those of all that hold, or the number to be predicted.
        tags: Number of the tag at each token; -100 where none is predicted.
        word_of_token: Number of the word that each token begins; -1 elsewhere.
    """

    tokens: dict[str, list[int]]
    label: float | int | tuple[int, ...]
    tags: list[int]
    word_of_token: list[int]


@dataclass(frozen=True)
class Reading:
    """An example as a model reads it.

    Attributes:
        ids: Of its tokens.
        types: Which text of a pair each token belongs to; empty where the model distinguishes none.
        begins: The number of the word that each token begins; -1 elsewhere.
        spans: Of each token the number of its text, and where it begins and ends there, without the
            spaces around it; None for a token that stands for no letter.
    """

    ids: list[int]
    types: list[int]
    begins: list[int]
    spans: list[Span | None]

    @property
    def words(self) -> list[int]:
        """The words of which something is read."""
        return [word for word in self.begins if word >= 0]

    def without_prompt(self, letters: int) -> "Reading":
        """The same with spans in the text behind a prompt of so many letters."""
        return replace(self, spans=[_behind(span, letters) for span in self.spans])


def encode_example(
    example: Example,
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    limit: int,
    *,
    segments: int = 0,
) -> Row:
    """The example as tokens; tags of words that are truncated are not predicted.

    Only the frame gives special tokens, whatever the text spells. Of a pair the longer text is
    truncated, at its end. Without a frame, a text without any token gets one.

    Args:
        example: Of the task.
        task: Its labels and tags.
        tokenizer: Of the model.
        limit: Tokens at most.
        segments: Token types that the model distinguishes; tokens get theirs where the model
            has enough for a pair.
    """
    read = read_example(example, tokenizer, limit, segments=segments, framed=True)
    tokens = {"input_ids": read.ids, "attention_mask": [1] * len(read.ids)}
    if read.types:
        tokens["token_type_ids"] = read.types
    tags = [-100] * len(read.begins)
    if example.tags is not None:
        tags = [task.tags.index(example.tags[word]) if word >= 0 else -100 for word in read.begins]
    return Row(tokens, _target(example, task), tags, read.begins)


def _target(example: Example, task: Task) -> float | int | tuple[int, ...]:
    numbers = tuple(task.labels.index(label) for label in labels_of(example))
    if task.kind is TaskKind.MULTI_LABEL:
        return numbers
    return numbers[0] if numbers else number_of(example)


def multi_hot(rows: Sequence[Example], labels: Sequence[str]) -> Float[Tensor, "rows classes"]:
    """Which classes hold for each row: 1 or 0; NaN for rows whose classes are not known.

    Args:
        rows: With several labels, one or none.
        labels: Of the columns.
    """
    found = torch.full((len(rows), len(labels)), math.nan)
    for number, row in enumerate(rows):
        if row.label is not None:
            held = labels_of(row)
            found[number] = torch.tensor([float(label in held) for label in labels])
    return found


def read_example(
    example: Example,
    tokenizer: PreTrainedTokenizerFast,
    limit: int,
    *,
    segments: int = 0,
    framed: bool = False,
) -> Reading:
    """What a model reads of an example.

    Args:
        example: With or without a label and tags.
        tokenizer: Of the model.
        limit: As for `encode_example`.
        segments: As for `encode_example`.
        framed: Put the frame of `frame_of` around the text, as for a model whose head is new; by
            default only what the tokenizer itself puts there.
    """
    # Words are read as one text: byte-level tokens know a word's start by the space before it.
    text = example.text or "" if example.words is None else " ".join(example.words)
    pair = example.text_pair if example.words is None else None
    framed = framed or own_frame(tokenizer.backend_tokenizer) is not None
    encoded = plain_tokenizer(tokenizer).encode(text, pair, add_special_tokens=framed)
    special, whose = encoded.special_tokens_mask, encoded.sequence_ids
    kept = _kept(special, whose, limit)
    ids = _at(encoded.ids, kept) or [frame_of(tokenizer).between]
    types: list[int] = []
    if segments > 1:
        types = _at(encoded.type_ids, kept) or [0]
        types = types if max(types) < segments else [0] * len(types)
    offsets = encoded.offsets
    begins = [-1] * len(ids)
    if example.words is not None:
        word_at = _word_at_each_character(example.words)
        before = -1
        for place, (start, end) in enumerate(_at(offsets, kept)):
            # By its last character: a token may begin with the space, or be nothing else.
            word = word_at[end - 1] if end > start else -1
            if word not in (-1, before):
                begins[place] = before = word
    texts = (text, pair or "")
    spans = [
        None if special[place] else _span(texts, whose[place] or 0, *offsets[place])
        for place in kept
    ]
    return Reading(ids, types, begins, spans or [None])


# Takes a list, because an Encoding makes its lists again whenever one is read.
def _at(values: list[_Value], places: list[int]) -> list[_Value]:
    return [values[place] for place in places]


def _span(texts: tuple[str, str], number: int, start: int, end: int) -> Span | None:
    """Where a token stands, wherever its tokenizer counts the spaces before and behind it."""
    text = texts[number]
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return (number, start, end) if start < end else None


def least_tokens(task: Task, tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    """Tokens that the longest kind of row needs at least, and how many of them are special.

    Args:
        task: Whose rows may be pairs.
        tokenizer: Of the model.
    """
    pairs = any(row.text_pair is not None for row in [*task.train, *task.test])
    special = plain_tokenizer(tokenizer).num_special_tokens_to_add(pairs)
    return special + 1 + pairs, special


def _behind(span: Span | None, letters: int) -> Span | None:
    """A span counted from so many letters of the first text on; None within these."""
    if span is None or span[0] > 0:
        return span
    _, start, end = span
    return (0, start - letters, end - letters) if start >= letters else None


def _kept(special: list[int], whose: list[int | None], limit: int) -> list[int]:
    """Places of all special tokens, and of the first of each text for which there is room."""
    places = [
        [n for n, other in enumerate(special) if not other and (whose[n] or 0) == text]
        for text in (0, 1)
    ]
    room = max(0, limit - sum(special))
    shorter, longer = sorted(places, key=len)
    # As transformers truncates pairs: the longer one, until both are of one length.
    of_shorter = min(len(shorter), room // 2) if longer else 0
    kept = {*shorter[:of_shorter], *longer[: room - of_shorter]}
    return [n for n, other in enumerate(special) if other or n in kept]


def _word_at_each_character(words: Sequence[str]) -> list[int]:
    found: list[int] = []
    for number, word in enumerate(words):
        found += [*[number] * len(word), -1]  # the space after it belongs to none
    return found


def collate_rows(
    rows: list[Row], tokenizer: PreTrainedTokenizerFast, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """The inputs of the model, padded to the longest row, and the tags to predict."""
    fill = {"input_ids": tokenizer.pad_token_id or 0}

    def table(values: list[list[int]], with_: int) -> Tensor:
        return torch.from_numpy(padded(values, with_, np.int64)).to(device)

    names = rows[0].tokens
    inputs = {n: table([row.tokens[n] for row in rows], fill.get(n, 0)) for n in names}
    return inputs, table([row.tags for row in rows], -100)
