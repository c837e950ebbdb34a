"""Bits per byte of masked words: a loss that can be compared across vocabularies.

Loss per token and perplexity cannot: a token of a small vocabulary is shorter
and easier to guess. Bytes of the hidden text are the same for all models.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..activations import Needs
from ..batch import Tokens
from ..models.architecture import Architecture
from ..models.capture import capture
from ..token_ids import TokenIds

_WITHOUT_TEXT = ("bos", "eos", "cls", "sep", "pad", "mask")


@torch.no_grad()
def masked_bits_per_byte(
    model: PreTrainedModel,
    architecture: Architecture,
    tokenizer: PreTrainedTokenizerFast,
    batches: Sequence[Tokens],
) -> float:
    """Bits that a model with a vocabulary head needs for each byte of the predicted tokens.

    Args:
        model: In evaluation mode.
        architecture: Of its family.
        tokenizer: Gives the bytes of a token.
        batches: With the masks that the model reads.

    Raises:
        ModelError: The model has no vocabulary head.
    """
    ids = TokenIds.of(tokenizer)
    nats, utf8_bytes = 0.0, 0
    for tokens in batches:
        read, needs = tokens.to(model.device), Needs(predictions=True)
        predictions = capture(model, architecture, read, needs).predictions
        if predictions is None:
            continue
        labels = read.at_predicted(read.labels)
        logits = ids.only(predictions.logits())
        nats += float(cross_entropy(logits, labels, reduction="sum"))
        utf8_bytes += predicted_bytes(tokenizer, tokens, spaces=architecture.causal)
    return nats / math.log(2) / max(1, utf8_bytes)


def predicted_bytes(
    tokenizer: PreTrainedTokenizerFast, tokens: Tokens, *, spaces: bool = False
) -> int:
    """UTF-8 bytes of the predicted tokens' text, with or without spaces.

    Decoders also predict spaces and the end of a text, whose bits count as bits of the text.
    Tokens that begin, end, separate, pad or mask have no bytes; other special tokens, such as
    <unk>, have those of their name. Where a batch holds the bytes of the text itself, these are
    taken. Otherwise adjacent tokens are decoded together, because a token alone may be half a
    character; notations such as ``##`` are left to the tokenizer's decoder.
    """
    if tokens.utf8_bytes is not None:
        return int(tokens.utf8_bytes[tokens.predicted].sum())
    nothing = {getattr(tokenizer, f"{role}_token_id") for role in _WITHOUT_TEXT}
    total = 0
    for labels, flags in zip(tokens.labels.tolist(), tokens.predicted.tolist(), strict=True):
        for predicted, run in groupby(zip(labels, flags, strict=True), key=itemgetter(1)):
            if predicted:
                ids = [label for label, _ in run if label not in nothing]
                text = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
                total += len((text if spaces else "".join(text.split())).encode())
    return total
