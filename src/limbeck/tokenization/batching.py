"""Batches of sequences: row m of batch n is a pure function of the seed, of n and of m.

So a killed run resumes with the same batches that it would have seen, the position in the data is
the number of the step, and each of several processes makes only the rows that it computes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import datasets
import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..batch import Batch, Tokens
from ..data.corpus import SeededOrder
from ..token_ids import TokenIds
from .frame import frame_of
from .masking import Masking, NextToken, mask_tokens, next_tokens
from .padding import padded, real_tokens

ALL_ROWS = slice(None)
_Ids = Int64[np.ndarray, "batch tokens"]
_Flags = Bool[np.ndarray, "batch tokens"]


@runtime_checkable
class BatchSource(Protocol):
    """A source of batches for the training loop.

    Attributes:
        depends_on_weights: Whether a batch is made with the weights at its step.
    """

    depends_on_weights: ClassVar[bool] = False

    def batch(self, number: int, rows: slice = ALL_ROWS) -> Batch:
        """The batch of a number, counted from 0, or some rows of it.

        Every call returns the same batch, and a row does not depend on which others are requested.
        """
        ...

    def facts(self) -> Mapping[str, object]:
        """Facts about the last batches for the log."""
        return {}

    def held_bytes(self) -> int:
        """Bytes on the device that stay from one batch to the next, as caches of generation do."""
        return 0

    def state(self) -> dict[str, Tensor]:
        """The state that later batches need of earlier ones, for a checkpoint."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state from a checkpoint."""
        return


@dataclass(frozen=True)
class Batches(BatchSource):
    """The batches of a stage.

    Attributes:
        table: Sequences of all sources, concatenated, as made by `tokenize_source`.
        order: Which sequence is at which place.
        tokenizer: Its special tokens are used.
        size: Number of sequences in a batch.
        masking: How tokens are masked, or that next tokens are predicted; None leaves every token
            as it is and predicts nothing.
        seed: Seed of the masks.
        apart: Whether documents in one sequence are isolated from each other.
    """

    table: datasets.Dataset
    order: SeededOrder
    tokenizer: PreTrainedTokenizerFast
    size: int
    masking: Masking | NextToken | None
    seed: int
    apart: bool = False

    def batch(self, number: int, rows: slice = ALL_ROWS) -> Batch:
        """The batch of a number, counted from 0, or some rows of it."""
        indices = self.order.indices(number * self.size, self.size)[rows]
        found: dict[str, Any] = self.table[indices.tolist()]
        sizes = found.get("utf8_bytes" if self._spaces else "visible_bytes")
        batch = collate(
            list(found["input_ids"]),
            list(found["continues"]),
            self.tokenizer,
            chance_of_rows(self.seed, number, range(self.size)[rows]),
            masking=self.masking,
            utf8_bytes=None if sizes is None else list(sizes),
        )
        if not self.apart:
            return batch
        tokens = kept_apart(batch.student, frame_of(self.tokenizer).between)
        return Batch(tokens, tokens)

    @property
    def _spaces(self) -> bool:
        """Whether white space is predicted: by decoders, but not where words are masked."""
        return isinstance(self.masking, NextToken)


def chance_of_rows(seed: int, number: int, rows: Sequence[int]) -> list[np.random.Generator]:
    """A random generator for each row of batch ``number``."""
    return [np.random.default_rng((seed, number, row)) for row in rows]


def collate(
    input_ids: Sequence[Any],
    continues: Sequence[Any],
    tokenizer: PreTrainedTokenizerFast,
    chance: Sequence[np.random.Generator],
    *,
    masking: Masking | NextToken | None,
    utf8_bytes: Sequence[Any] | None = None,
) -> Batch:
    """Sequences padded to the longest one, with the tokens that are to be predicted.

    Args:
        input_ids: Token ids of every sequence.
        continues: For every sequence, True at each token that continues the word before it.
        tokenizer: Its special tokens are used.
        chance: A random generator for every sequence.
        masking: What is to be predicted.
        utf8_bytes: UTF-8 bytes of text of each token, where known.
    """
    # Decoders often have no padding token; the id at padding is never read.
    ids = padded(input_ids, tokenizer.pad_token_id or 0, np.int64)
    continuing = padded(continues, False, np.bool_)
    real = real_tokens(input_ids)
    seen, labels, predicted = ids, ids, np.zeros_like(real)
    if isinstance(masking, NextToken):
        labels, predicted = next_tokens(ids, real)
    elif masking is not None:
        maskable = real & ~np.isin(ids, tokenizer.all_special_ids)
        seen, predicted = mask_tokens(
            ids,
            continuing,
            maskable,
            chance,
            masking=masking,
            mask_id=tokenizer.mask_token_id,
            random_ids=TokenIds.of(tokenizer).at,
        )
    batch = read_by_both(seen, real, labels, predicted)
    if utf8_bytes is None:
        return batch
    sizes = padded(utf8_bytes, 0, np.int64)
    if isinstance(masking, NextToken):
        sizes, _ = next_tokens(sizes, real)
    tokens = replace(batch.student, utf8_bytes=torch.from_numpy(sizes))
    return Batch(tokens, tokens)


def kept_apart(tokens: Tokens, between: int) -> Tokens:
    """The same sequences, with positions that restart after every separator between documents.

    The token after a separator begins another document and is not predicted.

    >>> ids, yes = torch.tensor([[1, 5, 6, 2, 7, 8]]), torch.ones(1, 6, dtype=torch.bool)
    >>> found = kept_apart(Tokens(ids, yes, ids, yes), between=2)
    >>> found.positions.tolist(), found.predicted[0, 3].item()
    ([[0, 1, 2, 3, 0, 1]], False)
    """
    places = torch.arange(tokens.mask.shape[1]).expand(tokens.mask.shape)
    marks = (tokens.input_ids == between) & (places > 0)
    begins = torch.where(marks.roll(1, -1) & (places > 0), places, 0).cummax(-1).values
    return replace(tokens, positions=places - begins, predicted=tokens.predicted & ~marks)


def read_by_both(seen: _Ids, real: _Flags, labels: _Ids, predicted: _Flags) -> Batch:
    """A batch of the same tokens for student and teacher."""
    tokens = as_tokens(seen, real, labels, predicted)
    return Batch(student=tokens, teacher=tokens)


def as_tokens(seen: _Ids, real: _Flags, labels: _Ids, predicted: _Flags) -> Tokens:
    """Arrays as `Tokens`."""
    return Tokens(
        input_ids=torch.from_numpy(seen),
        mask=torch.from_numpy(real),
        labels=torch.from_numpy(labels),
        predicted=torch.from_numpy(predicted),
    )
