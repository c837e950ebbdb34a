"""Sequences become batches: batch number n is a pure function of the seed and of n.

So a run that was killed goes on with the very batches it would have seen, and
the position in the data is the step itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import datasets
import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from ..batch import Batch, Tokens
from ..data.corpus import SeededOrder
from .masking import Masking, NextPiece, mask_pieces, next_pieces


@runtime_checkable
class BatchSource(Protocol):
    """Where the loop takes its batches from."""

    def batch(self, number: int) -> Batch:
        """The batch of that number, counted from 0, and the same whenever it is asked for."""
        ...


@dataclass(frozen=True)
class Batches:
    """The batches of a stage.

    Attributes:
        table: Sequences, as `tokenize_source` leaves them, one source after another.
        order: Which sequence stands at which place.
        tokenizer: Tells the special tokens.
        size: Sequences in a batch.
        masking: How pieces are hidden, or that the next one is to be predicted;
            None leaves every piece as it is and asks for no prediction.
        seed: Decides what is masked.
    """

    table: datasets.Dataset
    order: SeededOrder
    tokenizer: PreTrainedTokenizerFast
    size: int
    masking: Masking | NextPiece | None
    seed: int

    def batch(self, number: int) -> Batch:
        """The batch of that number, counted from 0."""
        indices = self.order.indices(number * self.size, self.size)
        rows: dict[str, Any] = self.table[indices.tolist()]
        generator = np.random.default_rng((self.seed, number))
        return collate(
            list(rows["input_ids"]),
            list(rows["continues"]),
            self.tokenizer,
            generator,
            masking=self.masking,
        )


def collate(
    input_ids: Sequence[Any],
    continues: Sequence[Any],
    tokenizer: PreTrainedTokenizerFast,
    generator: np.random.Generator,
    *,
    masking: Masking | NextPiece | None,
) -> Batch:
    """Sequences padded to the longest one, with what is to be predicted if asked for."""
    longest = max(len(row) for row in input_ids)
    shape = (len(input_ids), longest)
    # Decoders often have no padding piece; what stands at padding is never looked at.
    pieces = np.full(shape, tokenizer.pad_token_id or 0, dtype=np.int64)
    goes_on = np.zeros(shape, dtype=np.bool_)
    real = np.zeros(shape, dtype=np.bool_)
    for row, (ids, flags) in enumerate(zip(input_ids, continues, strict=True)):
        pieces[row, : len(ids)] = ids
        goes_on[row, : len(ids)] = flags
        real[row, : len(ids)] = True
    seen, predicted = pieces, np.zeros(shape, dtype=np.bool_)
    labels = pieces
    if isinstance(masking, NextPiece):
        labels, predicted = next_pieces(pieces, real)
    elif masking is not None:
        maskable = real & ~np.isin(pieces, tokenizer.all_special_ids)
        seen, predicted = mask_pieces(
            pieces,
            goes_on,
            maskable,
            generator,
            masking=masking,
            mask_id=tokenizer.mask_token_id,
            below=len(tokenizer),
        )
    tokens = Tokens(
        input_ids=torch.from_numpy(seen),
        mask=torch.from_numpy(real),
        labels=torch.from_numpy(labels),
        predicted=torch.from_numpy(predicted),
    )
    return Batch(student=tokens, teacher=tokens)
