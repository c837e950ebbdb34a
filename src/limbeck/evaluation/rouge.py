"""ROUGE-L over words of any script.

Source: Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries.
"""

import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec

import regex

from ..data.words import HAN, UNSPACED
from ..errors import MissingExtraError

_WORD = regex.compile(
    rf"(?V1)[{HAN}{UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{HAN}{UNSPACED}]]+"
)


def rouge_missing() -> str | None:
    """Why no ROUGE can be scored here; None where it can."""
    if find_spec("rouge_score") is not None:
        return None
    return "ROUGE needs rouge-score; run: pip install 'limbeck[generation]'"


def check_rouge() -> None:
    """See that ROUGE can be scored, before texts are generated for it.

    Raises:
        MissingExtraError: rouge-score is not installed.
    """
    if missing := rouge_missing():
        raise MissingExtraError(missing)


def rouge_l(references: Sequence[str], text: str) -> float:
    """F-measure of the longest common subsequence of words, of the best reference.

    Words are those of `words`.

    Raises:
        MissingExtraError: rouge-score is not installed.

    >>> round(rouge_l(["Кот сидел у окна.", "кот спал"], "Кот сидел дома"), 2)
    0.57
    """
    check_rouge()
    from rouge_score.rouge_scorer import RougeScorer

    # The library's own tokenizer drops every letter that is not Latin.
    found = RougeScorer(["rougeL"], tokenizer=_Words()).score_multi(list(references), text)
    return float(found["rougeL"].fmeasure)


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return words(text)


def words(text: str) -> list[str]:
    """Runs of letters, marks and digits of any script, in small letters.

    Of scripts without spaces between words each letter is one.

    >>> words("Кот спал. 我爱你")
    ['кот', 'спал', '我', '爱', '你']
    """
    return [str(word) for word in _WORD.findall(unicodedata.normalize("NFC", text).lower())]
