import pytest
from conftest import WORDS, make_text

from limbeck.tokenization.learn import KINDS, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.spelling import Spelling, spellings


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
