"""Shared words: exact by properties over tokenizers of every kind, and by hand."""

import itertools
import sys

import numpy as np
import pytest
import regex
from conftest import make_text, make_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from limbeck.data.words import HAN, UNSPACED
from limbeck.tokenization.learn import KINDS, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.words import (
    continues_word,
    has_unspaced,
    has_words,
    shared_words,
    token_groups,
    visible,
)

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
            vocab_size={"wordpiece": 100, "unigram": 60, "bytes": 300}[kind],
        )
        for kind in KINDS
        for lowercase in (True, False)
    ]
    return [t.backend_tokenizer for t in [*learned, *map(make_tokenizer, ("wordpiece", "unigram"))]]


def found(text, first, second, **options):
    encoded = [t.encode(text, add_special_tokens=False) for t in (first, second)]
    return encoded, shared_words(text, *encoded, **options)


def test_words_cover_all_tokens_in_order(tokenizers):
    for first, second in itertools.product(tokenizers, repeat=2):
        for text in TRICKY:
            encoded, words = found(text, first, second, at_spaces=not has_words(first))
            for encoding, numbers in zip(encoded, words[:2], strict=True):
                assert len(numbers) == len(encoding.ids)
                assert (np.diff(numbers) >= 0).all()
                assert not len(numbers) or 0 <= numbers.min() <= numbers.max() < words.total


def test_both_tokenizations_of_a_word_have_the_same_letters(tokenizers):
    """Every visible character is in the same word for both tokenizers."""
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


def test_a_token_across_a_border_joins_two_words():
    joining = learn_tokenizer(
        ["it's old, isn't it"] * 50, blank_tokenizer("bytes", lowercase=False), vocab_size=269
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


def grouped(text, first, second):
    encoded = [t.encode(text, add_special_tokens=False) for t in (first, second)]
    return encoded, token_groups(text, *encoded)


def by_characters(text, encoded):
    """Groups as the joined components of tokens that share a visible character."""
    offsets = [e.offsets for e in encoded]  # a new list whenever it is read
    tokens = [(side, n) for side, some in enumerate(offsets) for n in range(len(some))]
    group = {token: {token} for token in tokens}
    owners = {}
    for side, n in tokens:
        for place in range(*offsets[side][n]):
            if not text[place].isspace():
                owners.setdefault(place, []).append((side, n))
    for together in owners.values():
        joined = set().union(*(group[token] for token in together))
        for token in joined:
            group[token] = joined
    return group


def test_groups_are_the_finest_that_no_token_crosses(tokenizers):
    for first, second in itertools.product(tokenizers, repeat=2):
        for text in TRICKY:
            encoded, groups = grouped(text, first, second)
            expected = by_characters(text, encoded)
            number_of = {
                (side, n): number
                for side, numbers in enumerate(groups[:2])
                for n, number in enumerate(numbers.tolist())
            }
            assert number_of.keys() == expected.keys()
            for token, together in expected.items():
                assert {number_of[other] for other in together} == {number_of[token]}
            visible = {
                (side, n)
                for side, e in enumerate(encoded)
                for n, (start, end) in enumerate(e.offsets)
                if text[start:end].strip()
            }
            components = {frozenset(expected[token]) for token in visible}
            assert len(components) == len({number_of[token] for token in visible})


def test_groups_do_not_depend_on_which_tokenizer_comes_first(tokenizers):
    for first, second in itertools.combinations(tokenizers, 2):
        for text in TRICKY:
            _, one = grouped(text, first, second)
            _, other = grouped(text, second, first)
            assert one.first.tolist() == other.second.tolist()
            assert one.second.tolist() == other.first.tolist()


def test_one_tokenizer_with_itself_has_a_group_for_every_token(tokenizers):
    for tokenizer in tokenizers:
        for text in make_text(5):
            _, groups = grouped(text, tokenizer, tokenizer)
            assert groups.first.tolist() == groups.second.tolist()


def test_white_space_is_that_of_python():
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert [not c.isspace() for c in every] == visible(every).tolist()


def without_words(kind):
    """A tokenizer to which a whole text is one word, as Llama's and Gemma's."""
    tokens = ["the", "▁the", "▁hou", "se", "▁", "我爱", "猫", "ก", "ิ", "น"]
    tokenizer = Tokenizer(models.Unigram([("[UNK]", -9.0), *((t, -1.0) for t in tokens)], 0))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    if kind == "gemma":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    if kind == "metaspace":
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False, prepend_scheme="never")
    return tokenizer


@pytest.mark.parametrize("kind", ["none", "gemma", "metaspace"])
def test_tokens_of_a_tokenizer_without_words_continue_those_at_spaces(kind):
    tokenizer = without_words(kind)
    assert not has_words(tokenizer) and has_words(make_tokenizer("unigram").backend_tokenizer)
    for text, expected in (
        ("the house the", [("the", 0), ("▁hou", 0), ("se", 1), ("▁the", 0)]),
        # The mark of a space belongs to the letter behind it, and a vowel sign to that before it.
        ("the 我爱猫猫", [("the", 0), ("▁", 0), ("我爱", 1), ("猫", 0), ("猫", 0)]),
        ("กินน", [("ก", 0), ("ิ", 1), ("น", 0), ("น", 0)]),
    ):
        encoding = tokenizer.encode(text)
        continues = continues_word(text, encoding, at_spaces=True)
        assert list(zip(encoding.tokens, continues.tolist(), strict=True)) == expected


def test_each_letter_of_a_script_without_spaces_is_a_word():
    learned = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=False), vocab_size=300
    ).backend_tokenizer
    encoding = learned.encode("猫猫 the")
    assert {*encoding.word_ids[:6]} == {0}  # to the tokenizer both are one word
    continues = continues_word("猫猫 the", encoding)
    assert continues[:6].tolist() == [False, True, True, False, True, True]
    _, words = found("猫猫 the", learned, learned)
    assert words.first[:6].tolist() == [0, 0, 0, 1, 1, 1] and words.total == 3
    # A token of two letters joins them.
    text = "我爱猫猫"
    encoded, words = found(text, learned, without_words("none"))
    assert encoded[1].tokens == ["我爱", "猫", "猫"] and words.second.tolist() == [0, 1, 2]
    assert words.first.tolist() == [0] * 6 + [1] * 3 + [2] * 3


def test_letters_of_all_scripts_without_spaces_are_found():
    codes = (code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    letters = regex.findall(rf"[{HAN}{UNSPACED}]", "".join(map(chr, codes)))
    assert len(letters) > 90_000 and all(map(has_unspaced, letters))
    assert not has_unspaced("naïve — “это” 😀") and has_unspaced("это 猫")
