"""Prompts and responses as pieces: what a decoder reads, and from where on it predicts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from transformers import PreTrainedTokenizerFast

from ..batch import Batch, Tokens
from ..data.corpus import SeededOrder
from ..data.prompts import Prompt
from ..errors import DataError
from .batching import ALL_ROWS, BatchSource, as_tokens, padded
from .chat import as_said, before_words
from .frame import frame_of

Ids = Int[ndarray, "..."]
_AT_ONCE = 32  # each keeps the spelling of every piece: a thousand long ones take 2 GB


@dataclass(frozen=True)
class PromptTable:
    """Prompts in pieces, each with a response.

    Attributes:
        prompts: With what begins a text, and what stands between prompt and response.
        responses: Of each prompt's first reference, with the piece that ends it.
        cut_prompts: Prompts that were too long and lost their beginning.
        cut_responses: Responses that were too long and lost their end.
    """

    prompts: list[Ids]
    responses: list[Ids]
    cut_prompts: int
    cut_responses: int

    def __len__(self) -> int:
        return len(self.prompts)

    def by_length(self) -> "PromptTable":
        """The same, short texts first, so that some read at once hold little padding."""
        lengths = [len(p) + len(r) for p, r in zip(self.prompts, self.responses, strict=True)]
        order = np.argsort(lengths, kind="stable").tolist()
        prompts, responses = (
            [column[row] for row in order] for column in (self.prompts, self.responses)
        )
        return replace(self, prompts=prompts, responses=responses)


def encode_prompts(
    rows: Iterable[Prompt],
    tokenizer: PreTrainedTokenizerFast,
    *,
    length: int,
    response: int,
    between: str = "\n",
    chat: bool = False,
) -> PromptTable:
    """Prompts in pieces that leave room for the response.

    Args:
        rows: Prompts with references.
        tokenizer: A decoder's.
        length: Pieces of both together at most.
        response: Pieces of the response at most, its end included.
        between: Stands between prompt and response; not after an empty prompt.
        chat: Prompts stand in the tokenizer's chat template instead.

    Raises:
        DataError: There is no row, no room for a prompt, or no chat template.
    """
    begin, least = list(frame_of(tokenizer).first), 1
    if chat:
        [begin, empty] = _pieces(tokenizer, [before_words(tokenizer), as_said(tokenizer, "")])
        least = len(empty)
    room = length - response
    if room <= least:
        of_template = f" beside the {least} of the chat template" if chat else ""
        raise DataError(
            f"responses of {response} pieces leave no room for a prompt in {length}{of_template};"
            " make `response` smaller, or `length` larger"
        )
    table = PromptTable([], [], 0, 0)
    cut_prompts = cut_responses = 0
    rest = iter(rows)
    while some := list(islice(rest, _AT_ONCE)):
        if chat:
            asked = _pieces(tokenizer, [as_said(tokenizer, row.text) for row in some])
        else:
            said = _pieces(tokenizer, [row.text and row.text + between for row in some])
            asked = [[*begin, *pieces] for pieces in said]
        answers = _pieces(tokenizer, [row.references[0] for row in some])
        for prompt, answer in zip(asked, answers, strict=True):
            ended = [*answer, tokenizer.eos_token_id]
            cut_prompts += len(prompt) > room
            cut_responses += len(ended) > response
            whole = len(prompt) <= room
            kept = prompt if whole else [*begin, *prompt[len(prompt) + len(begin) - room :]]
            table.prompts.append(np.array(kept))
            table.responses.append(np.array(ended[:response]))
    if not table.prompts:
        raise DataError("the files of prompts hold no row for this; give more, or less `held_out`")
    return PromptTable(table.prompts, table.responses, cut_prompts, cut_responses)


def _pieces(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    found = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    return [encoding.ids for encoding in found]


def answered(
    prompts: Sequence[Ids], responses: Sequence[Ids], *, pad: int, prompts_too: bool = False
) -> Tokens:
    """Prompts with their responses, in which every piece of a response is predicted.

    Args:
        prompts: At least one piece each.
        responses: One for each.
        pad: What fills the rows up; it is never looked at.
        prompts_too: Predict the prompts as well, all but the piece that begins them.
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
        table: In pieces.
        order: Which prompt stands at which place.
        size: Prompts in a batch.
        pad: The piece that fills rows up.
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
        prompts, responses = (
            [column[row] for row in rows] for column in (self.table.prompts, self.table.responses)
        )
        return self.answered(prompts, responses)

    def answered(self, prompts: Sequence[Ids], responses: Sequence[Ids]) -> Tokens:
        """Prompts with any responses, predicted as those of the table are."""
        return answered(prompts, responses, pad=self.pad, prompts_too=self.prompts_too)
