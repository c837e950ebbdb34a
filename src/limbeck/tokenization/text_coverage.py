"""How well a tokenizer covers a text: tokens per word, unknown tokens, unknown characters."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Int64
from transformers import PreTrainedTokenizerFast

from .plain_text import count_spelled, plain_tokenizer

_LETTERS_NAMED = 50
_WORDS_NAMED = 5
_DOCUMENTS_AT_ONCE = 100


@dataclass(frozen=True)
class Coverage:
    """The coverage of one text.

    Attributes:
        words: Number of words, separated by white space.
        tokens: Number of tokens of all words.
        tokens_per_word: Mean number of tokens per word.
        tokens_per_word_p95: 95th percentile of the number of tokens per word.
        unknown_share: Share of unknown tokens among all tokens.
        unknown_letters_share: Share of the characters, without white space, that are in unknown
            tokens; one may stand for a whole sentence of a script without spaces.
        unknown_words: What was read as an unknown token, the most frequent first; at most a few. It
            may be a word whose letters are all known, but not as parts of a word.
        letters: Number of different characters in the text, without white space.
        letters_not_covered: Characters that are unknown even alone, the most frequent first; at
            most fifty.
        letters_not_covered_count: Number of all characters that are unknown even alone.
        spelled: Number of special tokens that the text spells, which are read as ordinary text.
    """

    words: int
    tokens: int
    tokens_per_word: float
    tokens_per_word_p95: float
    unknown_share: float
    unknown_letters_share: float
    unknown_words: tuple[str, ...]
    letters: int
    letters_not_covered: tuple[str, ...]
    letters_not_covered_count: int
    spelled: int


def coverage(tokenizer: PreTrainedTokenizerFast, documents: Iterable[str]) -> Coverage:
    """The coverage of some documents, which are read once.

    >>> from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
    >>> text = ["a cat sat", "a cat ran"]
    >>> blank = blank_tokenizer("wordpiece", lowercase=True)
    >>> cats = learn_tokenizer(text * 9, blank, vocab_size=19)
    >>> found = coverage(cats, ["a cat 猫"])
    >>> found.words, found.letters_not_covered
    (3, ('猫',))
    """
    letters: Counter[str] = Counter()
    counts: list[Int64[np.ndarray, " words"]] = []
    unknown, unknown_id = Counter[str](), tokenizer.unk_token_id
    spelled, plain = 0, plain_tokenizer(tokenizer)
    rest = iter(documents)
    while some := list(islice(rest, _DOCUMENTS_AT_ONCE)):
        spelled += count_spelled(tokenizer, some)
        for document in some:
            letters.update(document)
            encoded = plain.encode(document, add_special_tokens=False)
            ids, offsets = encoded.ids, encoded.offsets  # each a new list whenever it is read
            if unknown_id in ids:
                unknown.update(
                    document[start:end]
                    for number, (start, end) in zip(ids, offsets, strict=True)
                    if number == unknown_id
                )
            counts.append(_tokens_of_words(document, offsets))
    tokens = np.concatenate([*counts, np.zeros(0, dtype=np.int64)])
    seen = [(letter, times) for letter, times in letters.most_common() if not letter.isspace()]
    never = [letter for letter, _ in seen if _is_unknown(tokenizer, letter)]
    total = int(tokens.sum())
    hidden = sum(times * sum(map(len, word.split())) for word, times in unknown.items())
    return Coverage(
        words=len(tokens),
        tokens=total,
        tokens_per_word=float(tokens.mean()) if len(tokens) else 0.0,
        tokens_per_word_p95=float(np.quantile(tokens, 0.95)) if len(tokens) else 0.0,
        unknown_share=unknown.total() / total if total else 0.0,
        unknown_letters_share=hidden / max(1, sum(times for _, times in seen)),
        unknown_words=tuple(word for word, _ in unknown.most_common(_WORDS_NAMED)),
        letters=len(seen),
        letters_not_covered=tuple(never[:_LETTERS_NAMED]),
        letters_not_covered_count=len(never),
        spelled=spelled,
    )


def _tokens_of_words(document: str, offsets: list[tuple[int, int]]) -> Int64[np.ndarray, " words"]:
    starts, place = [], 0
    for word in document.split():
        starts.append(document.index(word, place))
        place = starts[-1] + len(word)
    if not starts:
        return np.zeros(0, dtype=np.int64)
    # Tokens are assigned by their last character, because a token of a byte-level tokenizer may
    # begin with the space before its word.
    ends = np.array([end - 1 for start, end in offsets if end > start], dtype=np.int64)
    # White space before the first word is counted with that word.
    words = np.maximum(np.searchsorted(starts, ends, side="right") - 1, 0)
    return np.bincount(words, minlength=len(starts))


def _is_unknown(tokenizer: PreTrainedTokenizerFast, letter: str) -> bool:
    tokens = plain_tokenizer(tokenizer).encode(letter, add_special_tokens=False).ids
    return tokenizer.unk_token_id is not None and tokenizer.unk_token_id in tokens
