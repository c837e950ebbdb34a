"""The tokens of a vocabulary that are whole words, so that a word may be replaced by them."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import regex
from jaxtyping import Int
from numpy import ndarray
from tokenizers import models
from transformers import PreTrainedTokenizerFast

from ..evaluation.leaks import normalized
from ..tokenization.lost_letters import lost_tokens
from ..tokenization.spelling import Spelling, spellings
from .row_texts import is_han

_LETTERS = regex.compile(r"[\p{L}\p{M}]+")


@dataclass(frozen=True)
class WordTokens:
    """Tokens that are words, by the order of their ids.

    Attributes:
        ids: Of the tokens.
        letters: The text of each.
        keys: A number for each, the same for those that differ in case or in what the tokenizer
            changes in every text.
        key_of: These numbers by such a text.
        tokenizer: Whose vocabulary it is.
    """

    ids: Int[ndarray, " tokens"]
    letters: tuple[str, ...]
    keys: Int[ndarray, " tokens"]
    key_of: dict[str, int]
    tokenizer: PreTrainedTokenizerFast

    def key(self, word: str) -> int:
        """The number of a word; -1 where no token is this word."""
        return self.key_of.get(_read(word, self.tokenizer), -1)

    @property
    def most_alike(self) -> int:
        """How many tokens at most are the same word."""
        return max(Counter(self.keys.tolist()).values(), default=0)


def word_tokens(tokenizer: PreTrainedTokenizerFast, *, han: bool) -> WordTokens:
    """The tokens of a vocabulary that stand for whole words of letters.

    Special and unused tokens, numbers and punctuation are none, nor are tokens that continue a
    word, or that the tokenizer can never make.

    Args:
        tokenizer: Of the model.
        han: Chinese characters instead of the words of all other scripts. A character need not
            begin a word, except where the notation has another token of it that does.
    """
    model = tokenizer.backend_tokenizer.model
    in_parts = isinstance(model, models.WordPiece | models.BPE)
    prefix = (model.continuing_subword_prefix or "") if in_parts else ""
    lost = set(map(tokenizer.get_vocab().__getitem__, lost_tokens(tokenizer)))

    def is_word(spelling: Spelling, number: int) -> bool:
        letters, begins, ends = spelling
        if ends is False or not _LETTERS.fullmatch(letters) or any(map(is_han, letters)) != han:
            return False
        token = str(tokenizer.convert_ids_to_tokens(number))
        return not (prefix and token.startswith(prefix)) if han else begins

    kept = sorted(
        (number, spelling.letters)
        for spelling, number in spellings(tokenizer).items()
        if number not in lost
        and is_word(spelling, number)
        and (not han or len(spelling.letters) == 1)
    )
    key_of: dict[str, int] = {}
    keys = [key_of.setdefault(_read(word, tokenizer), len(key_of)) for _, word in kept]
    return WordTokens(
        np.array([number for number, _ in kept], dtype=np.int64),
        tuple(word for _, word in kept),
        np.array(keys, dtype=np.int64),
        key_of,
        tokenizer,
    )


def in_case_of(word: str, candidate: str) -> str:
    """A lower-case candidate with the capitals of the word that it replaces.

    >>> in_case_of("Rome", "paris"), in_case_of("NATO", "they"), in_case_of("city", "Paris")
    ('Paris', 'THEY', 'Paris')
    """
    if candidate != candidate.lower():
        return candidate
    if len(word) > 1 and word.isupper():
        return candidate.upper()
    return candidate[:1].upper() + candidate[1:] if word[:1].isupper() else candidate


def _read(word: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """A word as the tokenizer reads it, without what copies of it differ in."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    read = word if normalizer is None else normalizer.normalize_str(word)
    return normalized(read.replace("▁", " "))
