"""Differences between the normalizers of two tokenizers, for every kind."""

import pytest

from limbeck.tokenization.learn import KINDS, blank_tokenizer
from limbeck.tokenization.normalizers import (
    distinguished_by_one,
    normalized,
    share_normalized_differently,
)

TOKENIZERS = {
    (kind, lowercase): blank_tokenizer(kind, lowercase=lowercase)
    for kind in KINDS
    for lowercase in (False, True)
}


@pytest.mark.parametrize("one", TOKENIZERS, ids=str)
@pytest.mark.parametrize("other", TOKENIZERS, ids=str)
def test_capitals_and_accents_of_every_pair(one, other):
    found = distinguished_by_one(TOKENIZERS[one], TOKENIZERS[other])
    capitals = {(False, True): "teacher", (True, False): "student"}.get((one[1], other[1]))
    assert found.get("capital letters") == capitals
    dropped = [pair == ("wordpiece", True) for pair in (one, other)]
    accents = {(False, True): "teacher", (True, False): "student"}.get(tuple(dropped))
    assert found.get("accents") == accents


def test_words_that_are_normalized_differently_are_counted():
    cased, small = (TOKENIZERS["wordpiece", low] for low in (False, True))
    assert share_normalized_differently(small, cased, ["Ein Café", "ein haus\n"]) == 0.5
    assert share_normalized_differently(cased, cased, ["Ein Café"]) == 0.0
    assert share_normalized_differently(cased, small, []) == 0.0


def test_spaces_replaced_by_letters_are_no_difference():
    assert normalized(TOKENIZERS["unigram", False], "Café") == "Café"
