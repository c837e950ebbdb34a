"""How many bits a decoder needs for each byte of given answers, early and late in them.

Bits per byte can be compared across vocabularies, perplexity only within one.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.corpus import SeededOrder
from ..generation.thirds import thirds_of
from ..tokenization.prompts import PromptBatches, PromptTable
from .settings import GenerationSettings
from .text_generator import TextGenerator

_THIRDS = ("first_third", "middle_third", "last_third")


class _Read(NamedTuple):
    """What was read of answers, for every predicted token.

    Attributes:
        nats: Of the token.
        utf8_bytes: Of its text; 0 at the end of an answer.
        third: Of the last answer that the token is in, 0 to 2; -1 in an earlier answer.
    """

    nats: Tensor
    utf8_bytes: Tensor
    third: Tensor


def answer_bits(
    generator: TextGenerator, table: PromptTable, settings: GenerationSettings
) -> dict[str, float]:
    """How likely a decoder finds the responses of a table after their prompts.

    Returns:
        ``bits_per_byte`` of all responses, and of the first, middle and last third of each
        (``bits_per_byte_first_third``, ...); ``perplexity`` of their tokens; and where there are
        conversations ``bits_per_byte_all_answers``, of the earlier answers of the assistant too.
        Their ends count as tokens, and have no bytes.
    """
    read = _Read(*map(torch.cat, zip(*_read(generator, table, settings), strict=True)))
    last = read.third >= 0
    found = {
        "bits_per_byte": _bits_per_byte(read, last),
        "perplexity": math.exp(min(float(read.nats[last].mean()), 700.0)),
    }
    for third, name in enumerate(_THIRDS):
        found[f"bits_per_byte_{name}"] = _bits_per_byte(read, read.third == third)
    if table.chats.conversations:
        found["bits_per_byte_all_answers"] = _bits_per_byte(read, torch.ones_like(last))
    return found


def _read(
    generator: TextGenerator, table: PromptTable, settings: GenerationSettings
) -> Iterator[_Read]:
    """What is read of each batch, in which rows are of about one length."""
    table = table.by_length()
    rows = PromptBatches(table, SeededOrder((len(table),), (1.0,), 0), settings.batch_size, pad=0)
    for start in range(0, len(table), settings.batch_size):
        some = range(start, min(start + settings.batch_size, len(table)))
        tokens = rows.read(some)
        third = torch.full_like(tokens.labels, -1)
        of_responses = thirds_of(torch.tensor([len(table.responses[row]) for row in some]))
        for place, row in enumerate(some):
            begin, length = len(table.prompts[row]) - 1, len(table.responses[row])
            third[place, begin : begin + length] = of_responses[place, :length]
        sizes = tokens.utf8_bytes
        if sizes is None:  # the table is encoded from texts
            raise ValueError("the table of prompts does not have the bytes of its tokens")
        yield _Read(generator.nats(tokens), sizes[tokens.predicted], third[tokens.predicted])


def _bits_per_byte(read: _Read, chosen: Tensor) -> float:
    utf8_bytes = max(1, int(read.utf8_bytes[chosen].sum()))
    return float(read.nats[chosen].sum()) / math.log(2) / utf8_bytes
