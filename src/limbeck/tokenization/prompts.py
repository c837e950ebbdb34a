"""Prompts and responses as tokens: what a decoder reads, and from where on it predicts."""

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
_AT_ONCE = 32  # each keeps the spelling of every token: a thousand long ones take 2 GB


@dataclass(frozen=True)
class PromptTable:
    """Prompts in tokens, each with a response.

    Attributes:
        prompts: With what begins a text, and what stands between prompt and response.
        responses: Of each prompt's first reference, with the token that ends it: in a chat template
            the end of the turn.
        cut_prompts: Prompts that were too long and lost their beginning.
        cut_responses: Responses that were too long and lost their end.
        prompt_bytes: Of text that each token of a prompt stands for; empty if not known.
        response_bytes: Likewise of a response.
        spelled: Special tokens that prompts and responses spell, read as ordinary text.
    """

    prompts: list[Ids]
    responses: list[Ids]
    cut_prompts: int
    cut_responses: int
    prompt_bytes: list[Ids] = field(default_factory=list)
    response_bytes: list[Ids] = field(default_factory=list)
    spelled: int = 0

    def __len__(self) -> int:
        return len(self.prompts)

    def by_length(self) -> "PromptTable":
        """The same, short texts first, so that some read at once hold little padding."""
        lengths = [len(p) + len(r) for p, r in zip(self.prompts, self.responses, strict=True)]
        order = np.argsort(lengths, kind="stable").tolist()
        [prompts, responses] = _rows(order, self.prompts, self.responses)
        if not self.response_bytes:
            return replace(self, prompts=prompts, responses=responses)
        [of_prompts, of_responses] = _rows(order, self.prompt_bytes, self.response_bytes)
        return replace(
            self,
            prompts=prompts,
            responses=responses,
            prompt_bytes=of_prompts,
            response_bytes=of_responses,
        )


def encode_prompts(
    rows: Iterable[Prompt],
    tokenizer: PreTrainedTokenizerFast,
    *,
    length: int,
    response: int,
    between: str = "\n",
    chat: bool = False,
) -> PromptTable:
    """Prompts in tokens that leave room for the response.

    Args:
        rows: Prompts with references.
        tokenizer: A decoder's.
        length: Tokens of both together at most.
        response: Tokens of the response at most, its end included.
        between: Stands between prompt and response; not after an empty prompt.
        chat: Prompts stand in the tokenizer's chat template instead.

    Raises:
        DataError: There is no row, no room for a prompt, or no chat template.
    """
    first = frame_of(tokenizer).begin
    begin = TokenizedText(np.array(first), np.zeros(len(first), dtype=np.int64))
    least = len(first)
    if chat:
        [begin] = tokenize_texts(tokenizer, [marked(tokenizer, before_words(tokenizer))])
        [empty] = tokenize_said(tokenizer, [""])
        least = len(empty.ids)
    room = length - response
    if room <= least:
        of_template = f" beside the {least} of the chat template" if chat else ""
        raise DataError(
            f"responses of {response} tokens leave no room for a prompt in {length}{of_template};"
            " make `response` smaller, or `length` larger"
        )
    mark = marked(tokenizer, between)  # a recipe's own, which may be a special token
    table, end = PromptTable([], [], 0, 0), answer_end(tokenizer, chat=chat)
    ended = TokenizedText(np.array([end]), np.array([0]))
    cut_prompts = cut_responses = spelled = 0
    rest = iter(rows)
    while some := list(islice(rest, _AT_ONCE)):
        answers = [row.references[0] for row in some]
        spelled += count_spelled(tokenizer, [*(row.text for row in some), *answers])
        if chat:
            asked = tokenize_said(tokenizer, [row.text for row in some])
        else:
            said = tokenize_texts(tokenizer, [row.text and row.text + mark for row in some])
            asked = [prompt.after(begin) for prompt in said]
        for prompt, answer in zip(asked, tokenize_texts(tokenizer, answers), strict=True):
            whole = ended.after(answer)
            cut_prompts += (too_long := len(prompt.ids) > room)
            cut_responses += len(whole.ids) > response
            kept = prompt.after(begin, room=room) if too_long else prompt
            table.prompts.append(kept.ids)
            table.prompt_bytes.append(kept.utf8_bytes)
            table.responses.append(whole.ids[:response])
            table.response_bytes.append(whole.utf8_bytes[:response])
    if not table.prompts:
        raise DataError("the files of prompts hold no row for this; give prompts that differ")
    return replace(table, cut_prompts=cut_prompts, cut_responses=cut_responses, spelled=spelled)


def answered(
    prompts: Sequence[Ids], responses: Sequence[Ids], *, pad: int, prompts_too: bool = False
) -> Tokens:
    """Prompts with their responses, in which every token of a response is predicted.

    Args:
        prompts: At least one token each.
        responses: One for each.
        pad: What fills the rows up; it is never looked at.
        prompts_too: Predict the prompts as well, all but the token that begins them.
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
    """Batches of prompts with the responses that the files have.

    Attributes:
        table: In tokens.
        order: Which prompt stands at which place.
        size: Prompts in a batch.
        pad: The token that fills rows up.
        prompts_too: Predict the prompts as well.
    """

    table: PromptTable
    order: SeededOrder
    size: int
    pad: int
    prompts_too: bool = False

    def numbers(self, number: int) -> list[int]:
        """Which prompts are in the batch of that number."""
        found: list[int] = self.order.indices(number * self.size, self.size).tolist()
        return found

    def batch(self, number: int, rows: slice = ALL_ROWS) -> Batch:
        """The batch of that number, counted from 0, or some rows of it."""
        tokens = self.read(self.numbers(number)[rows])
        return Batch(tokens, tokens)

    def read(self, rows: Sequence[int]) -> Tokens:
        """Some prompts with their responses."""
        table = self.table
        tokens = self.answered(*_rows(rows, table.prompts, table.responses))
        if not table.response_bytes:
            return tokens
        sizes = zip(*_rows(rows, table.prompt_bytes, table.response_bytes), strict=True)
        of_tokens = padded([np.concatenate(pair) for pair in sizes], 0, np.int64)
        of_labels, _ = next_tokens(of_tokens, tokens.mask.numpy())
        return replace(tokens, utf8_bytes=torch.from_numpy(of_labels))

    def answered(self, prompts: Sequence[Ids], responses: Sequence[Ids]) -> Tokens:
        """Prompts with any responses, predicted as those of the table are."""
        return answered(prompts, responses, pad=self.pad, prompts_too=self.prompts_too)


def _rows(rows: Sequence[int], *columns: list[Ids]) -> list[list[Ids]]:
    return [[column[row] for row in rows] for column in columns]
