"""Bits per byte of masked words: a loss that can be compared across vocabularies.

Loss per piece and perplexity cannot: a piece of a small vocabulary is shorter
and easier to guess. Bytes of the hidden text are the same for everyone.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..activations import Needs, capture
from ..architectures import Anatomy
from ..batch import Tokens


def masked_bits_per_byte(
    model: PreTrainedModel,
    anatomy: Anatomy,
    tokenizer: PreTrainedTokenizerFast,
    batches: Sequence[Tokens],
) -> float:
    """Bits that a model with a vocabulary head needs for each byte of the predicted pieces.

    Args:
        model: In evaluation mode.
        anatomy: Of its family.
        tokenizer: Tells the bytes of a piece.
        batches: Masked as the model reads them.

    Raises:
        ModelError: The model has no vocabulary head.
    """
    nats, utf8_bytes = 0.0, 0
    with torch.no_grad():
        for tokens in batches:
            logits = capture(model, anatomy, tokens, Needs(logits=True)).logits
            if logits is None:
                continue
            labels = tokens.labels[tokens.predicted]
            nats += float(cross_entropy(logits.float(), labels, reduction="sum"))
            utf8_bytes += sum(piece_bytes(tokenizer, int(label)) for label in labels)
    return nats / math.log(2) / max(1, utf8_bytes)


def piece_bytes(tokenizer: PreTrainedTokenizerFast, piece: int) -> int:
    """UTF-8 bytes of the text that a piece stands for, without a space before it.

    The piece is decoded behind another one, because decoders treat the first
    piece of a text differently; notations such as ``##`` are left to them.
    """
    before = str(tokenizer.decode([tokenizer.unk_token_id]))
    both = str(tokenizer.decode([tokenizer.unk_token_id, piece]))
    return max(1, len(both.removeprefix(before).strip().encode()))
