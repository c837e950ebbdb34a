"""Rows made of a span of one row and a span of another.

Source: Yoon et al. 2021, SSMix, arXiv:2106.08062, put a span of one text into another and mix the
labels; here spans are drawn evenly, stand one after another, and the teacher says the label.
"""

from collections.abc import Sequence

from numpy.random import Generator, default_rng

from ..evaluation.tasks import Example
from .row_texts import joined, units_of

_WAY = 1  # the random numbers of the other way are others


def join_spans(rows: Sequence[Example], number: int, *, copies: int, seed: int) -> list[Example]:
    """Rows that are each a contiguous span of one row and, after it, a span of another row.

    The other row is drawn evenly. A span of n words is 1 to n words long, all lengths and places
    being equally likely, so that new rows are about as long as the old ones. The two texts of a
    pair are joined with those of the same other pair, each from a span of its own.

    Args:
        rows: All rows, of one form; two or more.
        number: Of the row whose span is first.
        copies: How many rows are made.
        seed: Decides the spans; those of a row depend on nothing but its number, the copy and the
            number of rows.
    """
    found = []
    for copy in range(copies):
        chance = default_rng((seed, number, copy, _WAY))
        other = int(chance.integers(len(rows) - 1))
        other += other >= number
        row = rows[number]
        if row.words is not None:
            words = (*_of_list(row, chance), *_of_list(rows[other], chance))
            found.append(Example(words=words, place=row.place))
            continue
        pairs = zip(_texts(row), _texts(rows[other]), strict=True)
        texts = [joined(_of_text(one, chance), _of_text(two, chance)) for one, two in pairs]
        text, pair = [*texts, None][:2]
        found.append(Example(text, pair, place=row.place))
    return found


def _of_list(row: Example, chance: Generator) -> tuple[str, ...]:
    words = row.words or ()
    start, stop = _span(len(words), chance)
    return words[start:stop]


def _texts(row: Example) -> list[str]:
    return [text for text in (row.text, row.text_pair) if text is not None]


def _of_text(text: str, chance: Generator) -> str:
    units = units_of(text) or [(0, len(text))]
    start, stop = _span(len(units), chance)
    return text[units[start][0] : units[stop - 1][1]]


def _span(count: int, chance: Generator) -> tuple[int, int]:
    """Begin and end of a span of so many units."""
    length = 1 + int(chance.integers(count))
    start = int(chance.integers(count - length + 1))
    return start, start + length
