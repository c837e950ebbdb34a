"""Rows of a task as pieces: what a model reads of an example, and what it is asked there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from .tasks import Example, Task


@dataclass(frozen=True)
class Row:
    """An example as pieces.

    Attributes:
        pieces: What the tokenizer gives, by the name that the model reads it by.
        label: Number of the class, or the number to be predicted.
        tags: Number of the tag at each piece; -100 where none is asked.
        word_of_piece: Number of the word that each piece begins; -1 elsewhere.
    """

    pieces: dict[str, list[int]]
    label: float | int
    tags: list[int]
    word_of_piece: list[int]


def encode_example(
    example: Example, task: Task, tokenizer: PreTrainedTokenizerFast, limit: int
) -> Row:
    """The example as pieces, ``limit`` at most; words that are cut off are not asked for."""
    # Words are read as one text: byte-level pieces know a word's start by the space before it.
    text = example.text if example.words is None else " ".join(example.words)
    encoded = tokenizer(
        text,
        None if example.words is not None else example.text_pair,
        truncation=True,
        max_length=limit,
        return_offsets_mapping=True,
    )
    spans = encoded.pop("offset_mapping")
    length = len(encoded["input_ids"])
    tags, begins = [-100] * length, [-1] * length
    if example.words is not None and example.tags is not None:
        word_at = _word_at_each_character(example.words)
        before = -1
        for place, (start, end) in enumerate(spans):
            # By its last character: a piece may begin with the space, or be nothing else.
            word = word_at[end - 1] if end > start else -1
            if word not in (-1, before):
                begins[place] = before = word
                tags[place] = task.tags.index(example.tags[word])
    label = task.labels.index(str(example.label)) if task.labels else float(example.label or 0)
    return Row({k: list(v) for k, v in encoded.items()}, label, tags, begins)


def _word_at_each_character(words: Sequence[str]) -> list[int]:
    found: list[int] = []
    for number, word in enumerate(words):
        found += [*[number] * len(word), -1]  # the space after it belongs to none
    return found


def collate_rows(
    rows: list[Row], tokenizer: PreTrainedTokenizerFast, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """What the model is called with, padded to the longest row, and the tags asked for."""
    longest = max(len(row.tags) for row in rows)
    fill = {"input_ids": tokenizer.pad_token_id or 0}

    def padded(values: list[list[int]], with_: int) -> Tensor:
        full = [row + [with_] * (longest - len(row)) for row in values]
        return torch.tensor(full, device=device)

    names = rows[0].pieces
    inputs = {n: padded([row.pieces[n] for row in rows], fill.get(n, 0)) for n in names}
    return inputs, padded([row.tags for row in rows], -100)
