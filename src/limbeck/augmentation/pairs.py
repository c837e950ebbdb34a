"""Pairs of texts made of single texts: of those that share their words, and of one and its edits.

Source: Thakur et al. 2021, Augmented SBERT, arXiv:2010.08240, pair texts that are near by BM25, for
a cross-encoder to label; here near is the cosine of TF-IDF. Wei and Zou 2019, EDA,
arXiv:1901.11196, leave out and exchange words of a text; here the copy is paired with the text.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.random import Generator, default_rng
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from ..evaluation.leaks import normalized
from ..evaluation.tasks import Example
from ..system.progress import told
from .row_texts import joined, units_of

_WAY = 2  # the random numbers of the other ways are others
_AT_ONCE = 1000  # of texts whose neighbors are looked for
_LEFT_OUT = 0.15  # of the words of a text
_MOST_EXCHANGED = 3  # names or numbers


def different_texts(rows: Sequence[Example]) -> list[str]:
    """Both texts of every row, each once by its normalised form, in their order."""
    texts: dict[str, str] = {}
    for row in rows:
        for text in (row.text, row.text_pair):
            if text is not None and units_of(text):
                texts.setdefault(normalized(text), text)
    return list(texts.values())


def near_pairs(
    texts: Sequence[str],
    *,
    copies: int,
    min_similarity: float,
    seed: int,
    passed_over: Collection[tuple[str, ...]] = (),
) -> Iterator[Example]:
    """Each text with the texts that share most of its words, in either order.

    A pair of two texts that are near each other is given twice. In place of a pair that is passed
    over, a text gets its next neighbor.

    Args:
        texts: All different; two or more.
        copies: Neighbors of a text at most.
        min_similarity: The least cosine of the TF-IDF of two texts, 0 to 1.
        seed: Decides which text of a pair is first.
        passed_over: Keys (`key_of`) of pairs that are not wanted.
    """
    known = _partners(texts, passed_over)
    tfidf = TfidfVectorizer(analyzer=_words, sublinear_tf=True, dtype=np.float32)
    vectors = tfidf.fit_transform(texts)
    most = max(map(len, known.values()), default=0)
    count = min(copies + 1 + most, len(texts))  # each is its own nearest
    index = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(vectors)
    for start in told(range(0, len(texts), _AT_ONCE), "near texts", "batches"):
        distances, near = index.kneighbors(vectors[start : start + _AT_ONCE])
        for number, (far, nearest) in enumerate(zip(distances, near, strict=True), start):
            close = [int(n) for n, d in zip(nearest, far, strict=True) if 1 - d >= min_similarity]
            taken = known.get(number, set()) | {number}
            for other in [n for n in close if n not in taken][:copies]:
                # The same order, whichever of the two is looked at.
                first, second = sorted((number, other))
                if default_rng((seed, first, second, _WAY)).random() < 0.5:
                    first, second = second, first
                yield Example(texts[first], texts[second])


def _partners(texts: Sequence[str], pairs: Collection[tuple[str, ...]]) -> dict[int, set[int]]:
    """Of each text, by its number, the numbers of those that it is in a pair with."""
    places = {normalized(text): number for number, text in enumerate(texts)}
    found: dict[int, set[int]] = {}
    for key in pairs:
        if len(key) == 2 and key[0] in places and key[1] in places:
            one, other = (places[part] for part in key)
            found.setdefault(one, set()).add(other)
            found.setdefault(other, set()).add(one)
    return found


def edited_pairs(texts: Sequence[str], *, copies: int, seed: int) -> Iterator[Example]:
    """Each text with copies of it that are edited, in either order.

    A copy, one of four kinds by chance, leaves words out, has the two parts of the text in the
    other order, has names and numbers of another text (words, where there are none), or its end.

    Args:
        texts: All different; two or more.
        copies: Of each text.
        seed: Decides the edits; those of a text depend on nothing but its number, the copy and the
            other texts.
    """
    for number, text in enumerate(texts):
        for copy in range(copies):
            chance = default_rng((seed, number, copy, _WAY))
            other = int(chance.integers(len(texts) - 1))
            other += other >= number
            edit = _EDITS[int(chance.integers(len(_EDITS)))]
            edited = _text(edit(_units(text), _units(texts[other]), chance))
            pair = (text, edited) if chance.random() < 0.5 else (edited, text)
            yield Example(*pair)


def _words(text: str) -> list[str]:
    """What a text is compared by: words in lower case, or characters of scripts without spaces."""
    return _units(normalized(text))


def _units(text: str) -> list[str]:
    return [text[start:stop] for start, stop in units_of(text)]


def _text(units: Sequence[str]) -> str:
    between = (joined(one, two)[len(one) :] for one, two in pairwise(units))
    return "".join([units[0], *between])


def _without_words(units: list[str], _: list[str], chance: Generator) -> list[str]:
    kept = chance.random(len(units)) >= _LEFT_OUT
    kept[int(chance.integers(len(units)))] = False
    return [unit for unit, keep in zip(units, kept, strict=True) if keep] or units[:1]


def _turned(units: list[str], _: list[str], chance: Generator) -> list[str]:
    at = 1 + int(chance.integers(max(len(units) - 1, 1)))
    return units[at:] + units[:at]


def _exchanged(units: list[str], others: list[str], chance: Generator) -> list[str]:
    # The first word has a capital whether it is a name or not.
    places = [place for place, unit in enumerate(units) if place and _tells(unit)]
    places = places or list(range(len(units)))
    pool = [unit for unit in others[1:] if _tells(unit)] or others
    count = 1 + int(chance.integers(min(_MOST_EXCHANGED, len(places))))
    found = list(units)
    for place in chance.choice(places, count, replace=False):
        found[place] = pool[int(chance.integers(len(pool)))]
    return found


def _other_end(units: list[str], others: list[str], chance: Generator) -> list[str]:
    kept = max(int(chance.integers(len(units) // 2, len(units))), 1)
    end = others[-(len(units) - kept) :] if kept < len(units) else others[-1:]
    return units[:kept] + end


def _tells(unit: str) -> bool:
    """Whether a word is a name or a number, as far as its letters say."""
    return any(letter.isdigit() for letter in unit) or unit[:1].isupper()


_Edit = Callable[[list[str], list[str], Generator], list[str]]
_EDITS: tuple[_Edit, ...] = (_without_words, _turned, _exchanged, _other_end)
