"""Words are hidden from the model, which must predict them from the rest.

Source: Devlin et al. 2019, BERT, arXiv:1810.04805; whole words as in its later
release. Each word is drawn on its own, so the share holds on average.
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

# From numbers between 0 and 1, one for each place, to an id each.
RandomIds = Callable[[Float[ndarray, "batch tokens"]], Int[ndarray, "batch tokens"]]


@dataclass(frozen=True)
class Masking:
    """How pieces are hidden.

    Attributes:
        share: Probability that a word is to be predicted.
        whole_word: Draw words; otherwise each piece on its own.
        replaced: Of the predicted pieces, the share that becomes the mask token.
        random: Of the predicted pieces, the share that becomes a random piece;
            what is left stands as it is.
    """

    share: Annotated[Number, Field(gt=0, le=1)] = 0.15
    whole_word: bool = True
    replaced: Annotated[Number, Field(ge=0, le=1)] = 0.8
    random: Annotated[Number, Field(ge=0, le=1)] = 0.1


@dataclass(frozen=True)
class NextPiece:
    """Nothing is hidden: a decoder predicts every piece from those before it."""


def next_pieces(
    pieces: Int[ndarray, "batch tokens"], real: Bool[ndarray, "batch tokens"]
) -> tuple[Int[ndarray, "batch tokens"], Bool[ndarray, "batch tokens"]]:
    """The piece after each, and True where there is one.

    >>> next_pieces(np.array([[5, 6, 7, 0]]), np.array([[True, True, True, False]]))
    (array([[6, 7, 0, 0]]), array([[ True,  True, False, False]]))
    """
    labels, predicted = np.zeros_like(pieces), np.zeros_like(real)
    labels[:, :-1] = pieces[:, 1:]
    predicted[:, :-1] = real[:, 1:]
    return labels, predicted


def mask_pieces(
    pieces: Int[ndarray, "batch tokens"],
    continues: Bool[ndarray, "batch tokens"],
    maskable: Bool[ndarray, "batch tokens"],
    chance: Sequence[Generator],
    *,
    masking: Masking,
    mask_id: int | Int[ndarray, "batch tokens"],
    random_ids: RandomIds,
) -> tuple[Int[ndarray, "batch tokens"], Bool[ndarray, "batch tokens"]]:
    """The pieces as the model reads them, and True where it must predict.

    Args:
        pieces: Piece ids.
        continues: True where a piece goes on with the word before it.
        maskable: False at special tokens and padding, which stay as they are.
        chance: A source for every row, so that what is hidden in one does not hang on what
            stands beside it.
        masking: Shares, and whether words or pieces are drawn.
        mask_id: The mask token; where pieces are of several vocabularies, that of each.
        random_ids: Makes the ids of random pieces of even chances, as `TokenIds.at` does.
    """
    # Piece by piece, so that a row's draws do not hang on the padding behind it either.
    drawn = np.stack([source.random((pieces.shape[1], 3)) for source in chance])
    whether, fate, which = np.moveaxis(drawn, -1, 0)
    if masking.whole_word:
        # Every piece takes the draw of the first piece of its word.
        places = np.broadcast_to(np.arange(pieces.shape[1]), pieces.shape)
        begins = np.maximum.accumulate(np.where(continues, 0, places), axis=1)
        whether = np.take_along_axis(whether, begins, axis=1)
    predicted = (whether < masking.share) & maskable
    random_pieces = random_ids(which).astype(pieces.dtype)
    hidden = np.where(predicted & (fate < masking.replaced), mask_id, pieces)
    swapped = predicted & (fate >= masking.replaced) & (fate < masking.replaced + masking.random)
    return np.where(swapped, random_pieces, hidden), predicted
