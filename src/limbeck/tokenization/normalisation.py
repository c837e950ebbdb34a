"""What two tokenizers do to letters before they cut words, and where they differ in it."""

from collections.abc import Iterable
from itertools import chain

from transformers import PreTrainedTokenizerFast

# Two spellings each: a tokenizer that drops the difference writes both alike.
_DIFFERENCES = {
    "capital letters": (("B", "b"), ("Я", "я")),
    "accents": (("é", "e"), ("й", "и")),
}


def kept_by_one(
    teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast
) -> dict[str, str]:
    """What one of two tokenizers tells apart and the other does not, with whose it is.

    >>> from limbeck.tokenization.learn import blank_tokenizer
    >>> cased, uncased = (blank_tokenizer("wordpiece", lowercase=low) for low in (False, True))
    >>> kept_by_one(uncased, cased)
    {'capital letters': 'student', 'accents': 'student'}
    """
    found = {}
    for name, pairs in _DIFFERENCES.items():
        kept = [
            sum(normalised(cut, one) != normalised(cut, other) for one, other in pairs)
            for cut in (teacher, student)
        ]
        if kept[0] != kept[1]:
            found[name] = "teacher" if kept[0] > kept[1] else "student"
    return found


def share_read_otherwise(
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
    documents: Iterable[str],
) -> float:
    """The share of words, cut at white space, that two tokenizers do not take for the same text."""
    words = list(chain.from_iterable(document.split() for document in documents))
    other = sum(normalised(teacher, word) != normalised(student, word) for word in words)
    return other / len(words) if words else 0.0


def normalised(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A text as a tokenizer takes it, before it is cut."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    # Some write spaces as letters; words are compared without them.
    return normalizer.normalize_str(text).replace("▁", " ").strip() if normalizer else text
