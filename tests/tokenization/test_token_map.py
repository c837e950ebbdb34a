"""The teacher's tokens in the student's vocabulary are those that plain loops find."""

import numpy as np
import pytest

from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.normalizers import normalized
from limbeck.tokenization.spelling import Spelling, spellings
from limbeck.tokenization.token_map import ROLES, map_tokens

TEXT = [
    "the cat, the dog; cats and dogs (all of them) run.",
    "кот и пёс, ночь и улица; коты, псы.",
    "12,5 dogs; catalogue, undogmatic 日本語 naïve",
]
KINDS = ("wordpiece", "unigram", "bytes")


def learned(kind, texts, size, *, lowercase=False):
    return learn_tokenizer(texts * 20, blank_tokenizer(kind, lowercase=lowercase), vocab_size=size)


def spelled(letters, begins, known, *, loose):
    """The longest token at each place, tried from the longest part down."""
    found, start = [], 0
    while start < len(letters):
        for stop in range(len(letters), start, -1):
            here = begins and start == 0
            kinds = (here, not here) if loose else (here,)
            tried = [Spelling(letters[start:stop], kind) for kind in kinds]
            some = [known[one] for one in tried if one in known]
            if some:
                found.append(some[0])
                start = stop
                break
        else:
            return []
    return found


@pytest.mark.parametrize("ours", KINDS)
@pytest.mark.parametrize("theirs", KINDS)
@pytest.mark.parametrize("lowercase", [False, True])
def test_parts_are_those_of_plain_loops(ours, theirs, lowercase):
    teacher = learned(theirs, TEXT, {"wordpiece": 110, "unigram": 62, "bytes": 330}[theirs])
    # The student knows no Japanese, and begins words elsewhere.
    size = {"wordpiece": 75, "unigram": 46, "bytes": 295}[ours]
    student = learned(ours, TEXT[:2], size, lowercase=lowercase)
    tokens, known = map_tokens(teacher, student), spellings(student)
    roles = {getattr(teacher, role) for role in ROLES}
    assert not tokens.spellable.all()
    for spelling, number in spellings(teacher).items():
        if number in roles:
            continue
        letters = normalized(student, spelling.letters)
        exact = spelled(letters, spelling.begins, known, loose=False)
        expected = exact or spelled(letters, spelling.begins, known, loose=True)
        assert tokens.spellable[number] == bool(expected)
        assert tokens.same[number] == known.get(spelling, -1)
        if expected:
            assert tokens.parts_of(np.array([number]))[0].tolist() == expected
