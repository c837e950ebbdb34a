"""Prompts and responses as tokens: what a decoder reads, and which tokens it predicts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray
from transformers import PreTrainedTokenizerFast

from ..batch import Batch, Tokens
from ..data.corpus import SeededOrder
from ..data.prompts import Prompt
from ..errors import DataError
from .batching import ALL_ROWS, BatchSource, as_tokens
from .masking import next_tokens
from .padding import padded, real_tokens
from .plain_text import count_spelled
from .prompting.conversations import ChatCounts, Learned
from .prompting.encoder import PromptEncoder

Ids = Int[ndarray, "..."]
Row = TypeVar("Row", Ids, Learned)
_AT_ONCE = 32  # prompts tokenized together; a thousand long ones would take 2 GB


@dataclass(frozen=True)
class PromptTable:
    """Tokenized prompts, each with a response.

    Attributes:
        prompts: Prompts, with the tokens that begin a text and the separator before the response.
        responses: The first reference of each prompt, with the token that ends it: the end of the
            text, or of the turn in a chat template.
        truncated_prompts: Number of prompts that were too long and lost their beginning.
        truncated_responses: Number of responses that were too long and lost their end.
        prompt_bytes: Bytes of text of each token of the prompts; empty if not known.
        response_bytes: Bytes of text of each token of the responses; empty if not known.
        spelled: Number of special tokens that the texts spell, which are read as plain text.
        learned: Of each prompt, True at the tokens of earlier answers of a conversation, which are
            learned too; empty where there is no conversation.
        chats: What is counted in conversations.
    """

    prompts: list[Ids]
    responses: list[Ids]
    truncated_prompts: int
    truncated_responses: int
    prompt_bytes: list[Ids] = field(default_factory=list)
    response_bytes: list[Ids] = field(default_factory=list)
    spelled: int = 0
    learned: list[Learned] = field(default_factory=list)
    chats: ChatCounts = field(default_factory=ChatCounts)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def tokens(self) -> int:
        """Number of all tokens."""
        return sum(map(len, self.prompts)) + sum(map(len, self.responses))

    @property
    def predicted_tokens(self) -> int:
        """Number of tokens of responses and of earlier answers."""
        return sum(int(row.sum()) for row in self.learned) + sum(map(len, self.responses))

    def by_length(self) -> "PromptTable":
        """The same table with short texts first, so that batches have little padding."""
        lengths = [len(p) + len(r) for p, r in zip(self.prompts, self.responses, strict=True)]
        order = np.argsort(lengths, kind="stable").tolist()

        def ordered(column: list[Row]) -> list[Row]:
            return [column[row] for row in order] if column else []

        return replace(
            self,
            prompts=ordered(self.prompts),
            responses=ordered(self.responses),
            prompt_bytes=ordered(self.prompt_bytes),
            response_bytes=ordered(self.response_bytes),
            learned=ordered(self.learned),
        )


def encode_prompts(
    rows: Iterable[Prompt],
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    max_new_tokens: int,
    separator: str = "\n",
    chat_template: bool = False,
    generated: bool = True,
) -> PromptTable:
    """Tokenized prompts that leave room for their responses.

    Args:
        rows: Prompts with references.
        tokenizer: The tokenizer of a decoder.
        max_length: Largest number of tokens of prompt and response together.
        max_new_tokens: Largest number of tokens of the response, its end included.
        separator: Text between prompt and response; left out after an empty prompt.
        chat_template: Put prompts into the tokenizer's chat template instead.
        generated: Whether other responses, of ``max_new_tokens``, may be generated; otherwise a
            conversation leaves room for its own response only.

    Raises:
        DataError: There is no row, no room for a prompt, or no chat template; or the template does
            not suit a conversation.
    """
    encoder = PromptEncoder(
        tokenizer, max_length, max_new_tokens, separator, chat_template, generated
    )
    encoder.check_room()
    table, chats = PromptTable([], [], 0, 0), ChatCounts()
    long_prompts = long_responses = spelled = 0
    rest = iter(rows)
    while some := list(islice(rest, _AT_ONCE)):
        texts = (text for row in some for text in (row.text, row.references[0]))
        spelled += count_spelled(tokenizer, texts)
        for row, tokens in zip(some, encoder.encoded(some), strict=True):
            if row.conversation and tokens.rendered:
                chats = chats.and_one(row.conversation, tokens.rendered)
            long_prompts += tokens.shortened
            long_responses += len(tokens.response.ids) > max_new_tokens
            table.prompts.append(tokens.prompt.ids)
            table.prompt_bytes.append(tokens.prompt.utf8_bytes)
            table.responses.append(tokens.response.ids[:max_new_tokens])
            table.response_bytes.append(tokens.response.utf8_bytes[:max_new_tokens])
            table.learned.append(tokens.learned)
    if not table.prompts:
        raise DataError("the files of prompts hold no row for this; give prompts that differ")
    return replace(
        table,
        truncated_prompts=long_prompts,
        truncated_responses=long_responses,
        spelled=spelled,
        learned=table.learned if chats.conversations else [],
        chats=chats,
    )


def answered(
    prompts: Sequence[Ids], responses: Sequence[Ids], *, pad: int, prompts_too: bool = False
) -> Tokens:
    """Prompts with their responses, in which every token of a response is predicted.

    Args:
        prompts: Prompts of at least one token each.
        responses: One response for each prompt.
        pad: The id at padding, which is never read.
        prompts_too: Predict the prompts as well, except the first token of each.
    """
    rows = [np.concatenate(pair) for pair in zip(prompts, responses, strict=True)]
    ids = padded(rows, pad, np.int64)
    real = real_tokens(rows)
    places = np.arange(ids.shape[1])
    starts = np.array([len(prompt) for prompt in prompts])[:, None]
    ends = np.array([len(row) for row in rows])[:, None]
    predicted = (prompts_too | (places >= starts - 1)) & (places < ends - 1)
    labels = np.zeros_like(ids)
    labels[:, :-1] = ids[:, 1:]
    return as_tokens(ids, real, labels, predicted)


@dataclass(frozen=True)
class PromptBatches(BatchSource):
    """Batches of prompts with the responses from the files.

    Attributes:
        table: The tokenized prompts and responses.
        order: Which prompt is at which place.
        size: Number of prompts in a batch.
        pad: The id at padding.
        prompts_too: Predict the prompts as well.
    """

    table: PromptTable
    order: SeededOrder
    size: int
    pad: int
    prompts_too: bool = False

    def numbers(self, number: int) -> list[int]:
        """The prompts in the batch of a number."""
        found: list[int] = self.order.indices(number * self.size, self.size).tolist()
        return found

    def batch(self, number: int, rows: slice = ALL_ROWS) -> Batch:
        """The batch of a number, counted from 0, or some rows of it."""
        tokens = self.read(self.numbers(number)[rows])
        return Batch(tokens, tokens)

    def read(self, rows: Sequence[int]) -> Tokens:
        """Some prompts of the table with their responses; earlier answers are predicted too."""
        table = self.table
        tokens = self.answered(*_rows(rows, table.prompts, table.responses))
        if table.learned:
            [learned] = _rows(rows, table.learned)
            here = padded(learned, False, np.bool_)
            tokens.predicted[:, : here.shape[1] - 1] |= torch.from_numpy(here[:, 1:])
        if not table.response_bytes:
            return tokens
        sizes = zip(*_rows(rows, table.prompt_bytes, table.response_bytes), strict=True)
        of_tokens = padded([np.concatenate(pair) for pair in sizes], 0, np.int64)
        of_labels, _ = next_tokens(of_tokens, tokens.mask.numpy())
        return replace(tokens, utf8_bytes=torch.from_numpy(of_labels))

    def answered(self, prompts: Sequence[Ids], responses: Sequence[Ids]) -> Tokens:
        """Prompts with other responses, predicted like those of the table."""
        return answered(prompts, responses, pad=self.pad, prompts_too=self.prompts_too)


def _rows(rows: Sequence[int], *columns: list[Row]) -> list[list[Row]]:
    return [[column[row] for row in rows] for column in columns]
