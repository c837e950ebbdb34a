"""Spans of two rows, joined exactly as they stand in their texts."""

import itertools

import pytest
from conftest import make_text

from limbeck.augmentation.row_texts import joined, units_of
from limbeck.augmentation.spans import join_spans
from limbeck.evaluation.tasks import Example


def spans_of(units):
    """Every contiguous span of some units."""
    places = range(len(units) + 1)
    return {tuple(units[a:b]) for a, b in itertools.combinations(places, 2)}


def test_word_lists_are_joined_span_by_span():
    rows = [Example(words=tuple(text.split()), tags=("O",)) for text in make_text(8, seed=2)]
    lengths = []
    for number, row in enumerate(rows):
        others = {b for n, other in enumerate(rows) if n != number for b in spans_of(other.words)}
        for new in join_spans(rows, number, copies=20, seed=3):
            assert new.tags is None and new.text is None and new.label is None
            words = new.words
            assert any(
                words[:n] in spans_of(row.words) and words[n:] in others
                for n in range(1, len(words))
            )
            lengths.append(len(words))
    mean = sum(len(row.words) for row in rows) / len(rows)
    assert sum(lengths) / len(lengths) == pytest.approx(mean + 1, rel=0.15)


def test_spans_of_texts_are_parts_of_them():
    rows = [Example(text, label="a") for text in ("One,  two -- three!", "vier", "пять  шесть")]
    found = {new.text for n in range(3) for new in join_spans(rows, n, copies=400, seed=0)}
    assert {"One,  two vier", "vier шесть", "пять  шесть two -- three!"} <= found
    for text in found:
        assert any(
            text == f"{a.text[i:j]} {b.text[k:m]}"
            for a, b in itertools.permutations(rows, 2)
            for i, j in span_places(a.text)
            for k, m in span_places(b.text)
        )


def span_places(text):
    units = units_of(text)
    return [(a[0], b[1]) for a, b in itertools.combinations_with_replacement(units, 2)]


def test_both_texts_of_a_pair_are_joined_with_those_of_the_same_pair():
    rows = [Example(f"a{n} b{n}", f"c{n} d{n} e{n}", "yes") for n in range(5)]
    for new in join_spans(rows, 2, copies=50, seed=1):
        first, second = (text.split() for text in (new.text, new.text_pair))
        assert first[0][1] == second[0][1] == "2"
        assert {word[0] for word in first} <= {*"ab"} and {word[0] for word in second} <= {*"cde"}
        (partner,) = {word[1] for word in first + second} - {"2"}
        assert first[-1][1] == second[-1][1] == partner


def test_a_script_without_spaces_is_joined_between_characters():
    text = "我们爱，你"
    assert [text[begin:end] for begin, end in units_of(text)] == list(text)
    assert joined("我们", "你") == "我们你" and joined("ok", "你") == "ok 你"
    rows = [Example("我们爱"), Example("他你")]
    found = {new.text for new in join_spans(rows, 0, copies=60, seed=0)}
    assert {"我他", "们爱你", "我们爱他你"} <= found


def test_spans_depend_on_the_seed_and_on_nothing_before():
    rows = [Example(text) for text in make_text(9)]
    one, two = (join_spans(rows, 4, copies=c, seed=7) for c in (3, 6))
    assert one == two[:3] and join_spans(rows, 4, copies=3, seed=8) != one
