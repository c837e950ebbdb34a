"""Differences between the normalizers of two tokenizers: capital letters and accents."""

from collections.abc import Iterable
from itertools import chain

from transformers import PreTrainedTokenizerFast

# Pairs of letters that a normalizer without the distinction maps to the same letter.
_DIFFERENCES = {
    "capital letters": (("B", "b"), ("Я", "я")),
    "accents": (("é", "e"), ("й", "и")),
}


def distinguished_by_one(
    teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast
) -> dict[str, str]:
    """The distinctions that only one of two tokenizers makes, and which of them makes each.

    >>> from limbeck.tokenization.learn import blank_tokenizer
    >>> cased, uncased = (blank_tokenizer("wordpiece", lowercase=low) for low in (False, True))
    >>> distinguished_by_one(uncased, cased)
    {'capital letters': 'student', 'accents': 'student'}
    """
    found = {}
    for name, pairs in _DIFFERENCES.items():
        kept = [
            sum(normalized(tokenizer, one) != normalized(tokenizer, other) for one, other in pairs)
            for tokenizer in (teacher, student)
        ]
        if kept[0] != kept[1]:
            found[name] = "teacher" if kept[0] > kept[1] else "student"
    return found


def share_normalized_differently(
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
    documents: Iterable[str],
) -> float:
    """The share of words, separated by white space, that two tokenizers normalize differently."""
    words = list(chain.from_iterable(document.split() for document in documents))
    other = sum(normalized(teacher, word) != normalized(student, word) for word in words)
    return other / len(words) if words else 0.0


def normalized(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A text after the normalizer of a tokenizer, before it is tokenized."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    # Some normalizers replace spaces by a visible character; words are compared without it.
    return normalizer.normalize_str(text).replace("▁", " ").strip() if normalizer else text
