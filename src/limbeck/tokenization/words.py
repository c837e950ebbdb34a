"""Words that two tokenizers share: the finest spans of a text with a token border at both ends.

Where a token of one tokenizer crosses the border between two words of the other, the two words are
joined. Borders are character positions in the original text; the spelling of tokens is never used,
because notations differ. In scripts without spaces, where tokenizers often treat a whole sentence
as one word, each letter may be a word.
"""

import re
from typing import NamedTuple

import numpy as np
import regex
from jaxtyping import Bool, Int64
from tokenizers import Encoding, Tokenizer

from ..data.words import HAN, UNSPACED

# Whether each code point is white space; none beyond these is.
_WHITE = np.array([chr(number).isspace() for number in range(0x3002)])
_LETTER = rf"[{HAN}{UNSPACED}]"
_UNSPACED = regex.compile(_LETTER)
# Where all of these are, among others; finds quickly that a text has none.
_NEAR_UNSPACED = re.compile("[\u0e00-\u1dff\u2e80-\U0010ffff]")
_WORD = regex.compile(rf"{_LETTER}\p{{M}}*+|[^\s{HAN}{UNSPACED}]++")


class SharedWords(NamedTuple):
    """The number of the word of every token, counted from 0 and never decreasing along a text.

    Attributes:
        first: The word of each token of the first tokenizer.
        second: The word of each token of the second tokenizer.
        total: Number of words, at least one; a word may have no token of one tokenizer.
    """

    first: Int64[np.ndarray, " first_vocabulary"]
    second: Int64[np.ndarray, " second_vocabulary"]
    total: int


def shared_words(
    text: str, first: Encoding, second: Encoding, *, at_spaces: bool = False
) -> SharedWords:
    """The words of a text that two tokenizers share.

    Args:
        text: The text that both tokenized.
        first: Its tokens without special tokens, whose words are used.
        second: Its tokens by the other tokenizer.
        at_spaces: Words begin after white space, for a first tokenizer without words.
    """
    spans = _spans(text, first, second)
    return _kept_borders(_word_starts(text, first, spans[0], at_spaces), spans)


def token_groups(text: str, first: Encoding, second: Encoding) -> SharedWords:
    """The finest spans of a text with a token border of both tokenizers at each end, as words.

    A group consists of the tokens of each tokenizer over the same span; a tokenizer that drops
    characters may have none in it.

    Args:
        text: The text that both tokenized.
        first: Its tokens, without special tokens.
        second: Its tokens by the other tokenizer.
    """
    spans = _spans(text, first, second)
    starts = np.unique(np.concatenate([spans[0][0], spans[1][0]]))
    # Text before the first token belongs to its group.
    return _kept_borders(np.concatenate([[0], starts[1:]]).astype(np.int64), spans)


Span = tuple[
    Int64[np.ndarray, "..."], Int64[np.ndarray, "..."]
]  # begin and end of every token, in characters


def _spans(text: str, first: Encoding, second: Encoding) -> list[Span]:
    following = _next_visible(text)
    return [_trimmed(encoding, following) for encoding in (first, second)]


def _kept_borders(starts: Int64[np.ndarray, " words"], spans: list[Span]) -> SharedWords:
    """The words that begin at those places which no token crosses."""
    joined = np.zeros(len(starts) + 1, dtype=np.int64)
    places = []
    for begin, end in spans:
        word = np.searchsorted(starts, np.maximum(end - 1, begin), side="right") - 1
        entered = np.searchsorted(starts, begin, side="right") - 1
        # The number of tokens across a border rises where a token begins, and falls where it ends.
        np.add.at(joined, entered + 1, 1)
        np.add.at(joined, word + 1, -1)
        places.append(word)
    is_border = np.cumsum(joined)[: len(starts)] == 0
    number = np.cumsum(is_border) - 1
    return SharedWords(number[places[0]], number[places[1]], int(is_border.sum()))


def has_words(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer splits text at spaces first; some treat a whole text as one word."""
    if tokenizer.pre_tokenizer is None:
        return False
    text = "a a"
    if tokenizer.normalizer is not None:  # that of Gemma replaces the spaces
        text = tokenizer.normalizer.normalize_str(text)
    return len(tokenizer.pre_tokenizer.pre_tokenize_str(text)) > 1


def has_unspaced(text: str) -> bool:
    """Whether a text has letters of a script without spaces."""
    return _NEAR_UNSPACED.search(text) is not None and _UNSPACED.search(text) is not None


def continues_word(
    text: str, encoding: Encoding, *, at_spaces: bool = False
) -> Bool[np.ndarray, " vocabulary"]:
    """True at a token that continues the word before it.

    In scripts without spaces a token only continues a word where it belongs to the same letter as
    the token before it.

    Args:
        text: The text that was tokenized.
        encoding: Its tokens without special tokens.
        at_spaces: Words begin after white space, for a tokenizer without words.
    """
    numbers = np.array([-1 if n is None else n for n in encoding.word_ids], dtype=np.int64)
    found: Bool[np.ndarray, " vocabulary"] = (np.diff(numbers, prepend=-2) == 0) & (numbers >= 0)
    if at_spaces or has_unspaced(text):
        is_border = np.zeros(len(text) + 1, dtype=np.bool_)
        is_border[_written_words(text)] = True
        begin, end = _trimmed(encoding, _next_visible(text))
        # Not at the second of several tokens of one letter, nor behind the mark of a space alone.
        apart = (begin[1:] >= end[:-1]) & (begin[1:] > begin[:-1])
        found[1:] &= ~(is_border[begin[1:]] & apart)
    return found


def visible(text: str) -> Bool[np.ndarray, " places"]:
    """For each character, whether it is not white space."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    found: Bool[np.ndarray, " places"] = ~_WHITE[np.minimum(codes, len(_WHITE) - 1)]
    return found


def _next_visible(text: str) -> Int64[np.ndarray, " places"]:
    """The first place from each on that is not white space; one more entry for the end."""
    seen = visible(text)
    places = np.full(len(text) + 1, len(text), dtype=np.int64)
    places[:-1][seen] = np.flatnonzero(seen)
    return np.minimum.accumulate(places[::-1])[::-1]


def _trimmed(
    encoding: Encoding, following: Int64[np.ndarray, " places"]
) -> tuple[Int64[np.ndarray, " vocabulary"], Int64[np.ndarray, " vocabulary"]]:
    """Begin and end of every token, without white space at its beginning."""
    spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    # A token of only white space is placed where the next word begins.
    return np.minimum(following[spans[:, 0]], np.maximum(spans[:, 1], spans[:, 0])), spans[:, 1]


def _word_starts(
    text: str,
    first: Encoding,
    spans: tuple[Int64[np.ndarray, " vocabulary"], Int64[np.ndarray, " vocabulary"]],
    at_spaces: bool,
) -> Int64[np.ndarray, " words"]:
    starts = [_written_words(text)] if at_spaces or has_unspaced(text) else []
    if not at_spaces:
        numbers = np.array([-1 if n is None else n for n in first.word_ids], dtype=np.int64)
        starts.append(spans[0][np.diff(numbers, prepend=-2) != 0])
    # Text before the first word belongs to it; white space alone is one word.
    return np.concatenate([[0], np.unique(np.concatenate(starts))[1:]]).astype(np.int64)


def _written_words(text: str) -> Int64[np.ndarray, " words"]:
    """Where words begin after white space, and letters of scripts without spaces."""
    if not has_unspaced(text):
        seen = visible(text)
        return np.flatnonzero(seen & ~np.concatenate([[False], seen[:-1]]))
    return np.array([found.start() for found in _WORD.finditer(text)], dtype=np.int64)
