"""One sentence in the tokens of teacher and student, and what both expect at a hidden word."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..activations import Needs
from ..batch import Tokens
from ..models.architecture import Architecture
from ..models.capture import capture
from ..models.shapes import shape_of
from ..reports.vocabulary_results import SentenceInBoth
from ..token_ids import TokenIds
from ..tokenization.plain_text import plain_tokenizer
from ..tokenization.words import token_groups

Expected = list[list[tuple[str, float]]]


class TokenizedModel(NamedTuple):
    """A tokenizer with its model; None where the model has no vocabulary head."""

    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel | None
    architecture: Architecture


def two_readings(
    text: str, readers: Mapping[str, TokenizedModel], *, count: int = 5
) -> SentenceInBoth:
    """How two models tokenize a sentence, and what they expect at its longest word.

    The first word is never the hidden one: nothing before it helps to predict it.

    Args:
        text: Short enough for both.
        readers: ``teacher`` and ``student``, in this order.
        count: Tokens named for each gap.
    """
    encoded = [
        plain_tokenizer(reader.tokenizer).encode(text, add_special_tokens=False)
        for reader in readers.values()
    ]
    found = token_groups(text, encoded[0], encoded[1])
    groups: list[tuple[list[str], list[str]]] = [([], []) for _ in range(found.total)]
    for side, (numbers, reader) in enumerate(
        zip((found.first, found.second), readers.values(), strict=True)
    ):
        names = map(str, reader.tokenizer.convert_ids_to_tokens(encoded[side].ids))
        for token, group in zip(names, numbers.tolist(), strict=True):
            groups[group][side].append(token)
    words = [match.span() for match in re.finditer(r"\w+", text)]
    span = max(words[1:] or words or [(0, 0)], key=lambda place: place[1] - place[0])
    return SentenceInBoth(
        text,
        groups,
        text[slice(*span)],
        {name: _expected(text, span, reader, count) for name, reader in readers.items()},
    )


def _expected(text: str, span: tuple[int, int], reader: TokenizedModel, count: int) -> Expected:
    tokenizer, model, architecture = reader
    if model is None or tokenizer.mask_token_id is None:
        return []
    given = plain_tokenizer(tokenizer).encode(text)
    inside = [start < end and start < span[1] and end > span[0] for start, end in given.offsets]
    ids = torch.tensor([given.ids])
    predicted = torch.tensor([inside])
    longest = shape_of(model.config, architecture).max_position_embeddings
    if not predicted.any() or ids.shape[1] > longest:
        return []
    seen = ids.masked_fill(predicted, tokenizer.mask_token_id)
    tokens = Tokens(seen, torch.ones_like(predicted), ids, predicted)
    with torch.no_grad():
        found = capture(model, architecture, tokens, Needs(predictions=True)).predictions
    if found is None:
        return []
    best = TokenIds.of(tokenizer).only(found.logits()).softmax(-1).topk(count)
    return [
        [
            (str(tokenizer.convert_ids_to_tokens(number)), share)
            for number, share in zip(numbers, shares, strict=True)
        ]
        for numbers, shares in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
