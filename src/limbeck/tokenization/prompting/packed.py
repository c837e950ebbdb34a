"""Several prompts with their responses in one sequence, so that steps compute little padding.

Each is read on its own: positions restart with it, and none attends to another. Which stand
together depends on their lengths alone, by best-fit decreasing: the longest first, each in the
fullest sequence that still has room for it.

Source: Ding et al. 2024, Fewer Truncations Improve Language Modeling, arXiv:2404.10830.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ...batch import Batch, Tokens
from ...data.corpus import SeededOrder
from ..batching import ALL_ROWS, BatchSource
from ..prompts import PromptBatches, PromptTable


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Which texts stand together in a sequence, so that all have room.

    Args:
        lengths: Of the texts, each at most ``room``.
        room: Of a sequence.

    >>> pack([5, 3, 2, 6, 1], 8)
    [[3, 2], [0, 1], [4]]
    """
    sequences: list[list[int]] = []
    free: list[tuple[int, int]] = []  # what is left of each sequence, sorted
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        place = bisect_left(free, (lengths[text], 0))
        left, number = free.pop(place) if place < len(free) else (room, len(sequences))
        if number == len(sequences):
            sequences.append([])
        sequences[number].append(text)
        insort(free, (left - lengths[text], number))
    return sequences


@dataclass(frozen=True)
class PackedPrompts(BatchSource):
    """Batches of sequences that hold several prompts with the responses from the files.

    Attributes:
        prompts: By their numbers.
        sequences: Which prompts each holds.
        order: Which sequence is at which place.
        size: Number of sequences in a batch.
    """

    prompts: PromptBatches
    sequences: list[list[int]]
    order: SeededOrder
    size: int

    @staticmethod
    def of(prompts: PromptBatches, *, max_length: int) -> "PackedPrompts":
        """All prompts of a table, as many of them in a sequence as it has room for."""
        sequences = sequences_of(prompts.table, max_length=max_length)
        order = SeededOrder((len(sequences),), (1.0,), prompts.order.seed)
        return PackedPrompts(prompts, sequences, order, prompts.size)

    def batch(self, number: int, rows: slice = ALL_ROWS) -> Batch:
        """The batch of a number, counted from 0, or some rows of it."""
        numbers = self.order.indices(number * self.size, self.size)[rows].tolist()
        tokens = self.read([self.sequences[sequence] for sequence in numbers])
        return Batch(tokens, tokens)

    def read(self, sequences: Sequence[Sequence[int]]) -> Tokens:
        """Some sequences of prompts."""
        joined = [_joined(self.prompts.read(numbers)) for numbers in sequences]
        padding = {"input_ids": self.prompts.pad}
        found = {
            name: pad_sequence(
                [tokens[name] for tokens in joined],
                batch_first=True,
                padding_value=padding.get(name, 0),
            )
            for name in joined[0]
        }
        return Tokens(**found)


def sequences_of(table: PromptTable, *, max_length: int) -> list[list[int]]:
    """The prompts of a table that stand together in sequences."""
    lengths = [len(p) + len(r) for p, r in zip(table.prompts, table.responses, strict=True)]
    return pack(lengths, max_length)


def _joined(tokens: Tokens) -> dict[str, Tensor]:
    """Rows without their padding behind one another, each with positions of its own."""
    places = torch.arange(tokens.mask.shape[1]).expand(tokens.mask.shape)
    apart = replace(tokens, positions=places)
    there = ((field.name, getattr(apart, field.name)) for field in fields(apart))
    return {name: value[tokens.mask] for name, value in there if value is not None}
