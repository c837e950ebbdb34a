"""Pairs of texts: neighbors by an exact count of shared words, and edits that stay near a text."""

import itertools
import math
from collections import Counter

import pytest
from conftest import make_text

from limbeck.augmentation.pairs import different_texts, edited_pairs, near_pairs
from limbeck.evaluation.leaks import normalized
from limbeck.evaluation.tasks import Example

TEXTS = [
    "The river rose, and the old town was flooded.",
    "Old town was flooded as the river rose!",
    "Nobody in town saw the river.",
    "Shares of Acme fell 12 percent on Monday",
    "On Monday shares of Acme rose 3 percent",
    "Он всегда тихо ответил",
    "Он тихо ответил: нет",
    "我爱你",
    "我爱你们",
]


def cosines(texts):
    """TF-IDF by hand: (1 + ln count) (ln((1 + texts) / (1 + texts with it)) + 1), unit length."""
    bags = [
        Counter(normalized(text) if text[0] == "我" else normalized(text).split()) for text in texts
    ]
    within = Counter(word for bag in bags for word in bag)
    vectors = []
    for bag in bags:
        raw = {
            word: (1 + math.log(count)) * (math.log((1 + len(texts)) / (1 + within[word])) + 1)
            for word, count in bag.items()
        }
        length = math.sqrt(sum(value**2 for value in raw.values()))
        vectors.append({word: value / length for word, value in raw.items()})
    return {
        (a, b): sum(vectors[a].get(word, 0) * value for word, value in vectors[b].items())
        for a, b in itertools.permutations(range(len(texts)), 2)
    }


@pytest.mark.parametrize("least", [0.0, 0.15, 0.5])
@pytest.mark.parametrize("copies", [1, 3])
def test_neighbors_are_those_that_share_most_words(copies, least):
    alike = cosines(TEXTS)
    expected = set()
    for number in range(len(TEXTS)):
        others = [(alike[number, other], other) for other in range(len(TEXTS)) if other != number]
        # Texts that share nothing are all as far: which of them is taken is not said.
        some = sorted(others, reverse=True)[:copies]
        expected |= {frozenset((number, other)) for near, other in some if near > max(least, 1e-6)}
    places = {text: number for number, text in enumerate(TEXTS)}
    rows = list(near_pairs(TEXTS, copies=copies, min_similarity=least, seed=0))
    found = {frozenset((places[row.text], places[row.text_pair])) for row in rows}
    shared = {pair for pair in found if alike[tuple(pair)] > 1e-6}
    assert shared == expected
    assert all(alike[tuple(pair)] >= least - 1e-6 for pair in found)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_text_gets_its_next_neighbor_in_place_of_a_known_one(copies):
    alike = cosines(TEXTS)
    known = {(0, 1), (3, 4), (1, 2)}
    keys = {tuple(sorted(normalized(TEXTS[n]) for n in pair)) for pair in known}
    expected = set()
    for number in range(len(TEXTS)):
        others = [
            (alike[number, other], other)
            for other in range(len(TEXTS))
            if other != number and tuple(sorted((number, other))) not in known
        ]
        some = sorted(others, reverse=True)[:copies]
        expected |= {frozenset((number, other)) for near, other in some if near > 0.01}
    settings = {"copies": copies, "min_similarity": 0.01, "seed": 0}
    places = {text: number for number, text in enumerate(TEXTS)}
    rows = near_pairs(TEXTS, **settings, passed_over=keys)
    assert {frozenset((places[row.text], places[row.text_pair])) for row in rows} == expected


def test_a_pair_has_one_order_whichever_text_is_looked_at():
    rows = list(near_pairs(make_text(60, seed=1), copies=5, min_similarity=0.1, seed=4))
    keys = {tuple(sorted((row.text, row.text_pair))) for row in rows}
    assert len({(row.text, row.text_pair) for row in rows}) == len(keys)
    firsts = sum(row.text < row.text_pair for row in rows) / len(rows)
    assert 0.3 < firsts < 0.7


def test_many_texts_are_looked_through_in_batches(monkeypatch):
    texts = different_texts([Example(text) for text in make_text(90, seed=3)])
    whole = list(near_pairs(texts, copies=2, min_similarity=0.2, seed=0))
    monkeypatch.setattr("limbeck.augmentation.pairs._AT_ONCE", 7)
    assert list(near_pairs(texts, copies=2, min_similarity=0.2, seed=0)) == whole


def test_edits_are_of_four_kinds():
    text, other = "one two Three 4 five six seven eight", "nine ten Eleven 12 thirteen"
    rows = [row for row in edited_pairs([text, other], copies=400, seed=2) if text in pair_of(row)]
    words, others = text.split(), other.split()
    kinds = Counter()
    for row in rows:
        edited = next(one for one in pair_of(row) if one != text)
        new = edited.split()
        if new[0] in others:  # the copy is of the other text
            continue
        if len(new) < len(words) and set(new) <= set(words):
            kinds["left out"] += is_subsequence(new, words)
        elif sorted(new) == sorted(words):
            at = new.index("one")
            kinds["turned"] += new[at:] + new[:at] == words
        elif [n for n, pair in enumerate(zip(new, words, strict=False)) if pair[0] != pair[1]]:
            changed = {n for n, (a, b) in enumerate(zip(new, words, strict=False)) if a != b}
            exchanged = len(new) == len(words) and changed <= {2, 3}
            kinds["exchanged" if exchanged else "other end"] += 1
            if exchanged:
                assert {new[n] for n in changed} <= {"Eleven", "12"}
            else:
                start = min(changed)
                assert start >= len(words) // 2 and new[start:] == others[-len(new[start:]) :]
    assert set(kinds) == {"left out", "turned", "exchanged", "other end"}
    assert all(count > 40 for count in kinds.values())


def pair_of(row):
    return (row.text, row.text_pair)


def is_subsequence(some, words):
    rest = iter(words)
    return all(word in rest for word in some)


def test_edits_depend_on_the_seed_and_join_scripts_without_spaces():
    texts = ["我爱你们大家", "他们都来了吗", "one"]
    rows = list(edited_pairs(texts, copies=30, seed=0))
    assert rows == list(edited_pairs(texts, copies=30, seed=0))
    assert rows != list(edited_pairs(texts, copies=30, seed=1))
    han = [row for row in rows if "one" not in f"{row.text}{row.text_pair}"]
    assert han and not any(" " in text for row in han for text in pair_of(row))
    assert all(row.text and row.text_pair for row in rows)


def test_each_text_is_taken_once():
    rows = [Example("A b.", "c"), Example("a, B"), Example("C", "?!"), Example(" ")]
    assert different_texts(rows) == ["A b.", "c", "?!"]
