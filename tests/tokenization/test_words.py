"""Shared words: exact by properties over tokenizers of every kind, and by hand."""

import itertools

import numpy as np
import pytest
from conftest import make_text, make_tokenizer

from limbeck.tokenization.learn import KINDS, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.words import has_words, shared_words

TRICKY = [
    "Красный дом, it's naïve: être 12,5 — 日本語 😀 e\u0301.\r\nthe  old garden\t!",
    "",
    "  ",
    "a",
    "👨‍👩‍👧 the house",
    "дом\u200b сад",
    *make_text(20),
]


@pytest.fixture(scope="module")
def tokenizers():
    learned = [
        learn_tokenizer(
            make_text(300),
            blank_tokenizer(kind, lowercase=lowercase),
            size={"wordpiece": 100, "unigram": 60, "bytes": 300}[kind],
        )
        for kind in KINDS
        for lowercase in (True, False)
    ]
    return [t.backend_tokenizer for t in [*learned, *map(make_tokenizer, ("wordpiece", "unigram"))]]


def found(text, first, second, **options):
    encoded = [t.encode(text, add_special_tokens=False) for t in (first, second)]
    return encoded, shared_words(text, *encoded, **options)


def test_words_cover_all_pieces_in_order(tokenizers):
    for first, second in itertools.product(tokenizers, repeat=2):
        for text in TRICKY:
            encoded, words = found(text, first, second, at_spaces=not has_words(first))
            for encoding, numbers in zip(encoded, words[:2], strict=True):
                assert len(numbers) == len(encoding.ids)
                assert (np.diff(numbers) >= 0).all()
                assert not len(numbers) or 0 <= numbers.min() <= numbers.max() < words.total


def test_both_cuts_of_a_word_are_of_the_same_letters(tokenizers):
    """No visible character stands in one word for one tokenizer and in another for the other."""
    for first, second in itertools.product(tokenizers, repeat=2):
        for text in TRICKY:
            encoded, words = found(text, first, second)
            places = [{}, {}]
            for side, encoding, numbers in zip(places, encoded, words[:2], strict=True):
                for (start, end), number in zip(encoding.offsets, numbers, strict=True):
                    for place in range(start, end):
                        if not text[place].isspace():
                            assert side.setdefault(place, number) == number, (text, place)
            assert all(places[1][p] == n for p, n in places[0].items() if p in places[1])


def test_one_tokenizer_with_itself_keeps_its_words(tokenizers):
    for tokenizer in tokenizers:
        for text in make_text(5):
            (encoding, _), words = found(text, tokenizer, tokenizer)
            assert words.first.tolist() == words.second.tolist()
            numbers = list(dict.fromkeys(encoding.word_ids))
            assert words.first.tolist() == [numbers.index(n) for n in encoding.word_ids]


def test_a_piece_that_reaches_over_a_border_joins_two_words():
    joining = learn_tokenizer(
        ["it's old, isn't it"] * 50, blank_tokenizer("bytes", lowercase=False), size=269
    )
    plain = make_tokenizer()
    encoded, words = found("it's", plain.backend_tokenizer, joining.backend_tokenizer)
    assert encoded[1].tokens == ["it", "'s"]
    assert len(encoded[0].tokens) >= 3 and words.total == 2
    assert words.second.tolist() == [0, 1]


def test_words_at_spaces_for_a_tokenizer_without_words():
    tokenizer = make_tokenizer().backend_tokenizer
    _, words = found(" the old.  house", tokenizer, tokenizer, at_spaces=True)
    assert words.total == 3
