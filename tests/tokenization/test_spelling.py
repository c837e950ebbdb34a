import pytest
from conftest import WORDS, make_text
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from limbeck.tokenization.learn import KINDS, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.spelling import Spelling, spellings, unspelled


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_word_is_spelled_alike_in_every_notation(kind):
    size = {"wordpiece": 190, "unigram": 66, "bytes": 400}[kind]
    tokenizer = learn_tokenizer(
        make_text(300), blank_tokenizer(kind, lowercase=True), vocab_size=size
    )
    found, whole = spellings(tokenizer), 0
    for word in WORDS:
        token = tokenizer.tokenize(f"a {word}")[-1]
        if token.strip("▁Ġ") == word:  # in letters of bytes only the English words are
            begins = kind == "wordpiece" or token != word
            assert found[Spelling(word, begins)] == tokenizer.convert_tokens_to_ids(token)
            whole += 1
    assert whole >= 1
    assert not any(letters in ("[CLS]", "<s>", "") for letters, _ in found)
    assert not any(set(letters) & set("▁Ġ") or "##" in letters for letters, _ in found)


def test_parts_of_letters_have_no_spelling():
    tokenizer = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=True), vocab_size=300
    )
    half = tokenizer("猫", add_special_tokens=False)["input_ids"][0]
    assert half not in spellings(tokenizer).values()


def test_tokens_without_letters_stand_for_the_same_in_every_notation():
    learned = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=False), vocab_size=280
    )
    lone_bytes = [f"<0x{number:02X}>" for number in range(256)]
    names = {name: number for number, name in enumerate(["<unk>", "▁", "a", *lone_bytes])}
    model = models.BPE(names, [], unk_token="<unk>", byte_fallback=True)
    fallback = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="<unk>")
    one, other = unspelled(learned), unspelled(fallback)
    for tokenizer, found in ((learned, one), (fallback, other)):
        known = {*found.values(), *spellings(tokenizer).values()}
        assert known == set(tokenizer.get_vocab().values()) and len(found) == len({*found.values()})
    for number in range(128, 256):
        assert {bytes([number])} <= one.keys() & other.keys()
    assert one[Spelling("", True)] == learned.get_vocab()["Ġ"]
    assert other[Spelling("", True)] == 1 and other[b" "] == names["<0x20>"]
    # What encoding gives for a letter that no token has is its bytes, in their order.
    ids = learned("猫", add_special_tokens=False)["input_ids"]
    keys = {number: key for key, number in one.items()}
    assert b"".join(keys[number] for number in ids) == "猫".encode()
