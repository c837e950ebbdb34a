"""Masked language modelling: words are masked, and the model must predict them from the rest.

Source: Devlin et al. 2019, BERT, arXiv:1810.04805; whole words as in its later release. Each word
is drawn independently, so the share of masked words holds on average.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from numpy.random import Generator
from pydantic import Field

from ..system.numbers import Number

# Maps a number in [0, 1) at each place to a token id.
RandomIds = Callable[[Float[ndarray, "batch tokens"]], Int[ndarray, "batch tokens"]]


@dataclass(frozen=True)
class Masking:
    """How tokens are masked.

    Attributes:
        mlm_probability: Probability that a word is to be predicted.
        whole_word: Draw whole words; otherwise every token is drawn independently.
        mask_replace_prob: Share of the predicted tokens that become the mask token.
        random_replace_prob: Share of the predicted tokens that become a random token; the rest
            stays as it is.
    """

    mlm_probability: Annotated[Number, Field(gt=0, le=1)] = 0.15
    whole_word: bool = True
    mask_replace_prob: Annotated[Number, Field(ge=0, le=1)] = 0.8
    random_replace_prob: Annotated[Number, Field(ge=0, le=1)] = 0.1


@dataclass(frozen=True)
class NextToken:
    """Nothing is masked: a decoder predicts every token from those before it."""


def next_tokens(
    tokens: Int[ndarray, "batch tokens"], real: Bool[ndarray, "batch tokens"]
) -> tuple[Int[ndarray, "batch tokens"], Bool[ndarray, "batch tokens"]]:
    """The next token at each place, and True where there is one.

    >>> next_tokens(np.array([[5, 6, 7, 0]]), np.array([[True, True, True, False]]))
    (array([[6, 7, 0, 0]]), array([[ True,  True, False, False]]))
    """
    labels, predicted = np.zeros_like(tokens), np.zeros_like(real)
    labels[:, :-1] = tokens[:, 1:]
    predicted[:, :-1] = real[:, 1:]
    return labels, predicted


def mask_tokens(
    tokens: Int[ndarray, "batch tokens"],
    continues: Bool[ndarray, "batch tokens"],
    maskable: Bool[ndarray, "batch tokens"],
    chance: Sequence[Generator],
    *,
    masking: Masking,
    mask_id: int | Int[ndarray, "batch tokens"],
    random_ids: RandomIds,
) -> tuple[Int[ndarray, "batch tokens"], Bool[ndarray, "batch tokens"]]:
    """The tokens as the model reads them, and True where it must predict.

    Args:
        tokens: Token ids.
        continues: True where a token continues the word before it.
        maskable: False at special tokens and padding, which stay as they are.
        chance: A random generator for every row, so that the masks of a row do not depend on the
            other rows.
        masking: The probabilities, and whether words or tokens are drawn.
        mask_id: The mask token; one for each token where they are of several vocabularies.
        random_ids: Maps uniform numbers to random token ids, as `TokenIds.at` does.
    """
    # Drawn token by token, so that a row's draws do not depend on the padding after it either.
    drawn = np.stack([source.random((tokens.shape[1], 3)) for source in chance])
    whether, fate, which = np.moveaxis(drawn, -1, 0)
    if masking.whole_word:
        # Every token takes the draw of the first token of its word.
        places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
        begins = np.maximum.accumulate(np.where(continues, 0, places), axis=1)
        whether = np.take_along_axis(whether, begins, axis=1)
    predicted = (whether < masking.mlm_probability) & maskable
    random_tokens = random_ids(which).astype(tokens.dtype)
    hidden = np.where(predicted & (fate < masking.mask_replace_prob), mask_id, tokens)
    swapped = (
        predicted
        & (fate >= masking.mask_replace_prob)
        & (fate < masking.mask_replace_prob + masking.random_replace_prob)
    )
    return np.where(swapped, random_tokens, hidden), predicted
