"""The teacher's tokens in the student's vocabulary are those that plain loops find."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.normalizers import normalized
from limbeck.tokenization.spelling import Spelling, spellings, unspelled
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
    in_bytes = 0
    for spelling, number in spellings(teacher).items():
        if number in roles:
            continue
        letters = normalized(student, spelling.letters)
        expected = spelled(letters, spelling.begins, known, loose=False)
        assert tokens.same[number] == known.get(spelling, -1)
        if ours == "bytes" and not expected:
            mine = tokens.parts_of(np.array([number]))[0].tolist()
            # A normalizer's white space is not compared; such a token is the student's own.
            own = " " * spelling.begins + letters if letters else spelling.letters
            assert student.decode(mine) == own
            in_bytes += 1
            continue
        expected = expected or spelled(letters, spelling.begins, known, loose=True)
        assert tokens.spellable[number] == bool(expected)
        if expected:
            assert tokens.parts_of(np.array([number]))[0].tolist() == expected
    assert in_bytes if ours == "bytes" else not tokens.spellable.all()


def of_letters(tokens, **options):
    """Llama's notation: spaces are marked, and unknown letters are bytes."""
    names = ["<unk>", *(f"<0x{number:02X}>" for number in range(256)), *tokens]
    model = models.BPE(
        {name: n for n, name in enumerate(names)}, [], unk_token="<unk>", byte_fallback=True
    )
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="<unk>", **options)


@pytest.mark.parametrize("kind", [*KINDS, "letters"])
def test_a_tokenizer_has_all_of_its_own_tokens(kind):
    mine = (
        of_letters("▁ a ▁a".split())
        if kind == "letters"
        else learned(kind, TEXT, 330 if kind == "bytes" else 62 if kind == "unigram" else 110)
    )
    tokens, ids = map_tokens(mine, mine), sorted(mine.get_vocab().values())
    assert tokens.same[ids].tolist() == ids and tokens.spellable[ids].all()
    assert (tokens.lengths[ids] == 1).all()


def test_bytes_are_the_same_in_every_notation():
    one, other = learned("bytes", TEXT, 330), of_letters("▁ a ▁a".split())
    tokens = map_tokens(one, other)
    for number in range(128, 256):
        mine = unspelled(one)[bytes([number])]
        assert other.convert_ids_to_tokens(int(tokens.same[mine])) == f"<0x{number:02X}>"
    cats = one.convert_tokens_to_ids(one.tokenize(" cat")[0])
    parts = tokens.parts_of(np.array([cats]))[0]
    expected = ["▁", *(f"<0x{n:02X}>" for n in b"c"), "a", "<0x74>"]
    assert one.tokenize(" cat") != ["Ġcat"] or other.convert_ids_to_tokens(parts) == expected


def test_the_ends_of_words_are_marked_where_they_are():
    names = {name: n for n, name in enumerate(["hou", "se", "se</w>", "hou</w>", "h", ",</w>"])}
    model = models.BPE(names, [], end_of_word_suffix="</w>")
    student = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model))
    words = models.WordPiece(
        {name: n for n, name in enumerate(["house", "hou", "##se", ",", "[UNK]"])},
        unk_token="[UNK]",
    )
    teacher = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), unk_token="[UNK]")
    tokens = map_tokens(teacher, student)
    assert tokens.parts_of(np.array([0]))[0].tolist() == [names["hou"], names["se</w>"]]
    assert tokens.same[:4].tolist() == [-1, names["hou</w>"], -1, names[",</w>"]]
    back = map_tokens(student, teacher)
    assert back.same.tolist() == [1, -1, -1, 1, -1, 3]
