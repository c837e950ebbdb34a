"""A tokenizer with a subset of its tokens: those that a corpus uses most.

Text is normalized and split into words as before, and a word whose tokens all stay is tokenized as
before, so a token that stays can keep its row of the teacher's embeddings. Special tokens, letters
and bytes always stay, so that no known text becomes unknown.

Source: the idea of Abdaoui et al. 2020, Load What You Need, arXiv:2010.05609.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import isclose
from operator import itemgetter
from typing import Any

import numpy as np
from jaxtyping import Int64
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerFast

from ..errors import DataError
from .learn import as_transformers
from .merging import Merging, merge_pairs
from .plain_text import plain_tokenizer
from .post_processor import renumber
from .spelling import is_lone_byte
from .words import shared_words

_AT_ONCE = 1000
_GONE = -1  # the id of a token that does not stay


def count_tokens(tokenizer: PreTrainedTokenizerFast, documents: Iterable[str]) -> Counter[str]:
    """How often the documents use each token, without the special tokens around a text."""
    counts: Counter[int] = Counter()
    rest = iter(documents)
    while batch := list(islice(rest, _AT_ONCE)):
        for found in plain_tokenizer(tokenizer).encode_batch(batch, add_special_tokens=False):
            counts.update(found.ids)
    names = {number: token for token, number in tokenizer.get_vocab().items()}
    return Counter({names[number]: times for number, times in counts.items()})


def trimmed_tokenizer(
    tokenizer: PreTrainedTokenizerFast,
    counts: Mapping[str, int],
    *,
    vocab_size: int | None = None,
    fraction: float | None = None,
) -> PreTrainedTokenizerFast:
    """The tokenizer with fewer tokens, in their previous order.

    Args:
        tokenizer: A tokenizer of the kind WordPiece, BPE or Unigram.
        counts: Uses of each token; the tokens with most uses stay. With BPE, the tokens that a
            kept token is really merged from stay too.
        vocab_size: Number of tokens, special tokens included; or give ``fraction``.
        fraction: Keep the fewest tokens that make up this fraction of all uses, and the tokens
            that must stay.

    Raises:
        DataError: The size is larger than the vocabulary or smaller than the number of tokens
            that must stay, or the kind of tokenizer cannot be trimmed.
    """
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    model, numbers = settings["model"], tokenizer.get_vocab()
    if model["type"] not in ("WordPiece", "BPE", "Unigram"):
        raise DataError(f"a {model['type']} tokenizer cannot be trimmed; learn a new one")
    most = len(numbers) if vocab_size is None else vocab_size
    if not 0 < most <= len(numbers):
        raise DataError(f"{most} tokens were requested of {len(numbers)}; give a smaller size")
    merging = Merging(model) if model["type"] == "BPE" else None
    kept: set[str] = set()
    for token in _must_stay(settings, numbers):
        kept |= _needed(token, merging)
    if len(kept) > most:
        raise DataError(
            f"{most} tokens were requested, but special tokens, letters and bytes are already"
            f" {len(kept)}; give a larger size, or learn a new vocabulary"
        )
    uses, enough = 0, sum(counts.values()) * (1.0 if fraction is None else fraction)

    def order(token: str) -> tuple[int, bool, int]:
        never = merging is not None and not merging.made_of(token)
        return -counts.get(token, 0), never, numbers[token]

    for token in sorted(numbers, key=order):
        if vocab_size is None and uses >= enough:
            break
        uses += counts.get(token, 0)
        if len(more := _needed(token, merging) - kept) <= most - len(kept):
            kept |= more
    return _rebuilt(tokenizer, settings, _numbered(kept, model, numbers))


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


def _must_stay(settings: Mapping[str, Any], numbers: Mapping[str, int]) -> Iterator[str]:
    """Special tokens, single letters, bytes, and Unigram's least likely token."""
    model = settings["model"]
    suffix = model.get("end_of_word_suffix") or ""
    yield from (added["content"] for added in settings["added_tokens"])
    unknown = model.get("unk_token") or (
        model["vocab"][model["unk_id"]][0] if model.get("unk_id") is not None else None
    )
    prefix = model.get("continuing_subword_prefix") or ""
    for token in numbers:
        plain = token.removeprefix(prefix).removesuffix(suffix)
        if len(plain) == 1 or is_lone_byte(token) or token == unknown:
            yield token
    if model["type"] == "Unigram":
        # The score of the unknown token is relative to the least likely token, so it would change.
        yield min(model["vocab"], key=itemgetter(1))[0]


def _needed(token: str, merging: Merging | None) -> frozenset[str]:
    """A token with all tokens that must stay so that it can be made."""
    made = merging.made_of(token) if merging else frozenset[str]()
    return made or frozenset({token})  # a whole word may be a token that no merge makes


def _numbered(
    kept: set[str], model: Mapping[str, Any], numbers: Mapping[str, int]
) -> dict[str, int]:
    """New ids in the old order; added tokens follow those of the model, as when they are loaded."""
    tokens = model["vocab"]
    inside = {name for name, _ in tokens} if model["type"] == "Unigram" else tokens.keys()
    order = sorted(kept, key=lambda token: (token not in inside, numbers[token]))
    return {token: number for number, token in enumerate(order)}


def _rebuilt(
    tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any], numbers: Mapping[str, int]
) -> PreTrainedTokenizerFast:
    model = settings["model"]
    if model["type"] == "Unigram":
        entries = [entry for entry in model["vocab"] if entry[0] in numbers]
        if model["unk_id"] is not None:
            unknown = model["vocab"][model["unk_id"]][0]
            model["unk_id"] = [name for name, _ in entries].index(unknown)
        model["vocab"] = entries
    else:
        inside = model["vocab"].keys()
        model["vocab"] = {token: n for token, n in numbers.items() if token in inside}
    if model["type"] == "BPE":
        joined = Merging(model).joined
        model["merges"] = [
            pair for pair in merge_pairs(model) if {*pair, joined(*pair)} <= model["vocab"].keys()
        ]
    if padding := settings.get("padding"):
        padding["pad_id"] = numbers[padding["pad_token"]]
    for added in settings["added_tokens"]:
        added["id"] = numbers[added["content"]]
    renumber(settings["post_processor"] or {}, numbers)
    return as_transformers(Tokenizer.from_str(json.dumps(settings)), like=tokenizer)
