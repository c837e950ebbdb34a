"""The texts of a row as words and what stands between them, and rows made of changed texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import regex

from ..data.words import HAN, UNSPACED
from ..evaluation.tasks import Example

# What a row consists of.
WORD_LISTS, TEXTS, PAIRS = "lists of words", "texts", "pairs of texts"
# A Chinese character alone is taken for a word.
_LETTER = rf"[[\p{{L}}\p{{M}}]--[{HAN}{UNSPACED}]]"
# Letters, with apostrophes and hyphens inside. Possessive, so that no part of `mp3` is a word; not
# after an apostrophe, where `s` of `it 's` stands.
_WORD = regex.compile(
    rf"(?V1)({HAN}|(?<![{_LETTER}\p{{N}}_'’]){_LETTER}++(?:['’-]{_LETTER}++)*+(?![\p{{N}}_]))"
)
_IS_HAN = regex.compile(HAN)
# What a span consists of: whole words between spaces, or single characters of such scripts.
_UNIT = regex.compile(rf"(?V1)[{HAN}{UNSPACED}]\p{{M}}*|[[^\s]--[{HAN}{UNSPACED}]]+")
_IS_UNSPACED = regex.compile(rf"[{HAN}{UNSPACED}]\p{{M}}*")


@dataclass(frozen=True)
class Words:
    """A text in parts: what stands before the first word, the word, what stands behind it, ...

    Attributes:
        parts: The words are those of odd number.
        places: The numbers of those that consist of letters, and so may be replaced.
    """

    parts: tuple[str, ...]
    places: tuple[int, ...]

    @classmethod
    def of_text(cls, text: str) -> "Words":
        """The words of a text.

        >>> Words.of_text("Don't play mp3s!").parts
        ('', "Don't", ' ', 'play', ' mp3s!')
        """
        parts = tuple(_WORD.split(text))
        return cls(parts, tuple(range(1, len(parts), 2)))

    @classmethod
    def of_list(cls, words: Sequence[str]) -> "Words":
        """Words as they are given; those with digits or punctuation are never replaced."""
        parts = [""]
        for word in words:
            parts += [word, " "]
        parts[-1] = ""
        places = (n for n in range(1, len(parts), 2) if _WORD.fullmatch(parts[n]))
        return cls(tuple(parts), tuple(places))

    def changed(self, words: Mapping[int, str]) -> "Words":
        """With other words at some places."""
        parts = (words.get(number, part) for number, part in enumerate(self.parts))
        return Words(tuple(parts), self.places)

    @cached_property
    def text(self) -> str:
        """All parts in one text."""
        return "".join(self.parts)

    @property
    def words(self) -> tuple[str, ...]:
        """The words alone."""
        return self.parts[1::2]


def texts_of(row: Example) -> list[Words]:
    """The text of a row, the two of a pair, or its list of words."""
    if row.words is not None:
        return [Words.of_list(row.words)]
    texts = (row.text, row.text_pair)
    return [Words.of_text(text) for text in texts if text is not None]


def with_texts(row: Example, texts: Sequence[Words]) -> Example:
    """A row of the same form, without label and tags, that has other texts."""
    if row.words is not None:
        return Example(words=texts[0].words, place=row.place)
    text, pair = [*(text.text for text in texts), None][:2]
    return Example(text, pair, place=row.place)


def form_of(row: Example) -> str:
    """What a row consists of, in words."""
    if row.words is not None:
        return WORD_LISTS
    return TEXTS if row.text_pair is None else PAIRS


def is_han(word: str) -> bool:
    """Whether a word is a Chinese character."""
    return _IS_HAN.match(word) is not None


def units_of(text: str) -> list[tuple[int, int]]:
    """Where the units of a text begin and end, in characters; a span consists of whole units.

    >>> units_of("so it is")
    [(0, 2), (3, 5), (6, 8)]
    """
    return [match.span() for match in _UNIT.finditer(text)]


def joined(first: str, second: str) -> str:
    """Two spans with a space between them, but not within a script that has none.

    >>> joined("play it", "again"), joined("我爱", "你")
    ('play it again', '我爱你')
    """
    together = _IS_UNSPACED.match(second) and _IS_UNSPACED.match(_last_unit(first))
    return f"{first}{second}" if together else f"{first} {second}"


def _last_unit(text: str) -> str:
    units = units_of(text)
    return text[slice(*units[-1])] if units else ""
