"""Prompts and responses as tokens: what a decoder reads, and which tokens it predicts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray
from transformers import PreTrainedTokenizerFast

from ..batch import Batch, Tokens
from ..data.corpus import SeededOrder
from ..data.prompts import Prompt
from ..errors import DataError
from .batching import ALL_ROWS, BatchSource, as_tokens, padded
from .chat import answer_end, before_words, tokenize_said
from .frame import frame_of
from .masking import next_tokens
from .plain_text import count_spelled, marked
from .text_bytes import TokenizedText, tokenize_texts

Ids = Int[ndarray, "..."]
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
    """

    prompts: list[Ids]
    responses: list[Ids]
    truncated_prompts: int
    truncated_responses: int
    prompt_bytes: list[Ids] = field(default_factory=list)
    response_bytes: list[Ids] = field(default_factory=list)
    spelled: int = 0

    def __len__(self) -> int:
        return len(self.prompts)

    def by_length(self) -> "PromptTable":
        """The same table with short texts first, so that batches have little padding."""
        lengths = [len(p) + len(r) for p, r in zip(self.prompts, self.responses, strict=True)]
        order = np.argsort(lengths, kind="stable").tolist()

        def ordered(column: list[Ids]) -> list[Ids]:
            return [column[row] for row in order] if column else []

        return replace(
            self,
            prompts=ordered(self.prompts),
            responses=ordered(self.responses),
            prompt_bytes=ordered(self.prompt_bytes),
            response_bytes=ordered(self.response_bytes),
        )


def encode_prompts(
    rows: Iterable[Prompt],
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    max_new_tokens: int,
    separator: str = "\n",
    chat_template: bool = False,
) -> PromptTable:
    """Tokenized prompts that leave room for their responses.

    Args:
        rows: Prompts with references.
        tokenizer: The tokenizer of a decoder.
        max_length: Largest number of tokens of prompt and response together.
        max_new_tokens: Largest number of tokens of the response, its end included.
        separator: Text between prompt and response; left out after an empty prompt.
        chat_template: Put prompts into the tokenizer's chat template instead.

    Raises:
        DataError: There is no row, no room for a prompt, or no chat template.
    """
    begin, least = _beginning(tokenizer, chat_template)
    room = max_length - max_new_tokens
    if room <= least:
        of_template = f" beside the {least} of the chat template" if chat_template else ""
        raise DataError(
            f"responses of {max_new_tokens} tokens leave no room for a prompt in"
            f" {max_length}{of_template}; make `max_new_tokens` smaller, or `max_length` larger"
        )
    mark = marked(tokenizer, separator)  # from a recipe, so it may be a special token
    table, end = PromptTable([], [], 0, 0), answer_end(tokenizer, chat=chat_template)
    ended = TokenizedText(np.array([end]), np.array([0]))
    long_prompts = long_responses = spelled = 0
    rest = iter(rows)
    while some := list(islice(rest, _AT_ONCE)):
        answers = [row.references[0] for row in some]
        spelled += count_spelled(tokenizer, [*(row.text for row in some), *answers])
        if chat_template:
            asked = tokenize_said(tokenizer, [row.text for row in some])
        else:
            said = tokenize_texts(tokenizer, [row.text and row.text + mark for row in some])
            asked = [prompt.after(begin) for prompt in said]
        for prompt, answer in zip(asked, tokenize_texts(tokenizer, answers), strict=True):
            whole = ended.after(answer)
            long_prompts += (too_long := len(prompt.ids) > room)
            long_responses += len(whole.ids) > max_new_tokens
            kept = prompt.after(begin, room=room) if too_long else prompt
            table.prompts.append(kept.ids)
            table.prompt_bytes.append(kept.utf8_bytes)
            table.responses.append(whole.ids[:max_new_tokens])
            table.response_bytes.append(whole.utf8_bytes[:max_new_tokens])
    if not table.prompts:
        raise DataError("the files of prompts hold no row for this; give prompts that differ")
    return replace(
        table, truncated_prompts=long_prompts, truncated_responses=long_responses, spelled=spelled
    )


def _beginning(
    tokenizer: PreTrainedTokenizerFast, chat_template: bool
) -> tuple[TokenizedText, int]:
    """The tokens that begin a prompt, and the number of tokens of an empty prompt."""
    if chat_template:
        [begin] = tokenize_texts(tokenizer, [marked(tokenizer, before_words(tokenizer))])
        [empty] = tokenize_said(tokenizer, [""])
        return begin, len(empty.ids)
    first = frame_of(tokenizer).begin
    return TokenizedText(np.array(first), np.zeros(len(first), dtype=np.int64)), len(first)


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
    real = padded([np.ones(len(row)) for row in rows], False, np.bool_)
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
        """Some prompts of the table with their responses."""
        table = self.table
        tokens = self.answered(*_rows(rows, table.prompts, table.responses))
        if not table.response_bytes:
            return tokens
        sizes = zip(*_rows(rows, table.prompt_bytes, table.response_bytes), strict=True)
        of_tokens = padded([np.concatenate(pair) for pair in sizes], 0, np.int64)
        of_labels, _ = next_tokens(of_tokens, tokens.mask.numpy())
        return replace(tokens, utf8_bytes=torch.from_numpy(of_labels))

    def answered(self, prompts: Sequence[Ids], responses: Sequence[Ids]) -> Tokens:
        """Prompts with other responses, predicted like those of the table."""
        return answered(prompts, responses, pad=self.pad, prompts_too=self.prompts_too)


def _rows(rows: Sequence[int], *columns: list[Ids]) -> list[list[Ids]]:
    return [[column[row] for row in rows] for column in columns]
