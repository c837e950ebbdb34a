"""Whether a trimmed tokenizer tokenizes text as before, wherever all tokens stay."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import isclose

import numpy as np
from jaxtyping import Int64
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerFast

from .plain_text import plain_tokenizer
from .words import shared_words

_AT_ONCE = 1000
_GONE = -1  # the id of a token that does not stay


@dataclass(frozen=True)
class Proof:
    """Whether a trimmed tokenizer tokenizes text as before where all tokens stay.

    Attributes:
        words: Number of different words, each with the white space before it.
        all_stay: Number of words whose tokens all stay.
        tokenized_otherwise: Different spans of the text whose tokens all stay, and which are
            nevertheless tokenized in another way; the shortest with a token border of both
            tokenizers at each end.
        lost: Tokens of these spans that no longer occur in the text.
        unused: Other kept tokens that no longer occur in the text, because they only occurred
            beside tokens that do not stay.
    """

    words: int
    all_stay: int
    tokenized_otherwise: tuple[str, ...]
    lost: tuple[str, ...]
    unused: tuple[str, ...]


def prove(
    tokenizer: PreTrainedTokenizerFast, trimmed: PreTrainedTokenizerFast, documents: Iterable[str]
) -> Proof:
    """Compare both tokenizers on whole documents, which are read once.

    At a token border of both tokenizers, the text on one side does not affect the other side. So
    every span between two such borders must be tokenized as before if its tokens all stay. With
    Unigram it may become an equally likely tokenization, as rounding decides between these.
    """
    both = [_with_white_space(each) for each in (tokenizer, trimmed)]
    old, new = (each.get_vocab() for each in both)
    numbers = np.full(max(old.values()) + 1, _GONE)
    for token, number in old.items():
        numbers[number] = new.get(token, _GONE)
    scores = _scores(both[1])
    words, in_parts, otherwise = set[str](), set[str](), set[str]()
    missed, used, still = set[int](), set[int](), set[int]()
    rest = iter(documents)
    while batch := list(islice(rest, _AT_ONCE)):
        encoded = (each.encode_batch(batch, add_special_tokens=False) for each in both)
        for text, before, after in zip(batch, *encoded, strict=True):
            ids = numbers[before.ids]
            for word, stays in _words(text, before, ids):
                words.add(word)
                if not stays:
                    in_parts.add(word)
            for span, was, now in _otherwise(text, before, ids, after):
                if not _as_likely(was, now, scores):
                    otherwise.add(span)
                    missed |= set(was) - set(now)
            used.update(ids.tolist())
            still.update(after.ids)
    names = {number: token for token, number in new.items()}
    return Proof(
        len(words),
        len(words - in_parts),
        tuple(sorted(otherwise)),
        *(
            tuple(sorted(names[number] for number in some))
            for some in (missed - still, used - still - missed - {_GONE})
        ),
    )


def _with_white_space(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A tokenizer of users' text whose offsets cover all characters of each token."""
    plain = Tokenizer.from_str(plain_tokenizer(tokenizer).to_str())
    plain.post_processor = None  # some remove white space from the offsets
    return plain


def _words(
    text: str, encoded: Encoding, ids: Int64[np.ndarray, " tokens"]
) -> Iterator[tuple[str, bool]]:
    """Words at white space that no token crosses, and whether all their tokens stay."""
    if not len(ids):
        return
    number = shared_words(text, encoded, encoded, at_spaces=True).first
    first = np.flatnonzero(np.diff(number, prepend=-1))
    stays = np.minimum.reduceat(ids, first) != _GONE
    ends, begin = encoded.offsets, 0
    for last, stay in zip([*(first[1:] - 1).tolist(), -1], stays.tolist(), strict=True):
        yield text[begin : ends[last][1]], stay
        begin = ends[last][1]


def _scores(tokenizer: Tokenizer) -> dict[int, float]:
    """Log-probabilities of the tokens of Unigram; empty for other kinds."""
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] != "Unigram":
        return {}
    return {number: score for number, (_, score) in enumerate(model["vocab"])}


def _as_likely(was: list[int], now: list[int], scores: Mapping[int, float]) -> bool:
    """Whether two tokenizations are equally likely for Unigram."""
    both = (sum(scores.get(number, 0.0) for number in tokens) for tokens in (was, now))
    return bool(scores) and isclose(*both)


def _otherwise(
    text: str, before: Encoding, ids: Int64[np.ndarray, " tokens"], after: Encoding
) -> Iterator[tuple[str, list[int], list[int]]]:
    """Spans whose tokens all stay but differ, with the tokens before and after trimming.

    They are the shortest spans with a token border at each end, before and after trimming.
    """
    spans = [np.array(each.offsets, dtype=np.int64).reshape(-1, 2) for each in (before, after)]
    first, second = (_borders(span) for span in spans)
    borders = np.intersect1d(first, second, assume_unique=True)
    places = [np.searchsorted(borders, span[:, 0], side="right") for span in spans]
    stays = np.ones(len(borders) + 1, dtype=bool)
    stays[places[0][ids == _GONE]] = False
    was, now = (
        np.stack([place, tokens], axis=1)[stays[place]]
        for place, tokens in zip(places, (ids, np.array(after.ids, dtype=np.int64)), strict=True)
    )
    if np.array_equal(was, now):
        return
    ends = [0, *borders.tolist(), len(text)]
    parts = [defaultdict[int, list[int]](list) for _ in spans]
    for found, tokens in zip(parts, (was, now), strict=True):
        for place, token in tokens.tolist():
            found[place].append(token)
    for place, tokens_were in parts[0].items():
        if tokens_were != (tokens_are := parts[1][place]):
            yield text[ends[place] : ends[place + 1]], tokens_were, tokens_are


def _borders(spans: Int64[np.ndarray, "tokens 2"]) -> Int64[np.ndarray, " borders"]:
    """Places where a token begins and that no token crosses."""
    begin, reached = spans[1:, 0], np.maximum.accumulate(spans[:, 1])[:-1]
    found: Int64[np.ndarray, " borders"] = begin[reached <= begin]
    return found
