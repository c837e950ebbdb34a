"""What two tokenizers do to letters, over every kind that there is."""

import pytest

from limbeck.tokenization.learn import KINDS, blank_tokenizer
from limbeck.tokenization.normalisation import kept_by_one, normalised, share_read_otherwise

TOKENIZERS = {
    (kind, lowercase): blank_tokenizer(kind, lowercase=lowercase)
    for kind in KINDS
    for lowercase in (False, True)
}


@pytest.mark.parametrize("one", TOKENIZERS, ids=str)
@pytest.mark.parametrize("other", TOKENIZERS, ids=str)
def test_capitals_and_accents_of_every_pair(one, other):
    found = kept_by_one(TOKENIZERS[one], TOKENIZERS[other])
    capitals = {(False, True): "teacher", (True, False): "student"}.get((one[1], other[1]))
    assert found.get("capital letters") == capitals
    dropped = [pair == ("wordpiece", True) for pair in (one, other)]
    accents = {(False, True): "teacher", (True, False): "student"}.get(tuple(dropped))
    assert found.get("accents") == accents


def test_words_are_counted_that_are_not_the_same_text_to_both():
    cased, small = (TOKENIZERS["wordpiece", low] for low in (False, True))
    assert share_read_otherwise(small, cased, ["Ein Café", "ein haus\n"]) == 0.5
    assert share_read_otherwise(cased, cased, ["Ein Café"]) == 0.0
    assert share_read_otherwise(cased, small, []) == 0.0


def test_spaces_written_as_letters_are_no_difference():
    assert normalised(TOKENIZERS["unigram", False], "Café") == "Café"
