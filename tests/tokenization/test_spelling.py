import pytest
from conftest import WORDS, make_text
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from limbeck.tokenization.learn import KINDS, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.spelling import Spelling, spelled_in_bytes, spellings, unspelled


def named(model, **options):
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **options)


def test_notations_that_mark_no_beginning():
    ends = models.BPE({"hou": 0, "house</w>": 1, ",</w>": 2}, [], end_of_word_suffix="</w>")
    words = models.WordLevel({"house": 0, ",": 1, "(": 2, "猫": 3}, unk_token="house")
    assert spellings(named(ends)) == {
        Spelling("hou", True, False): 0,
        Spelling("house", True, True): 1,
        Spelling(",", True, True): 2,
    }
    assert set(spellings(named(words))) == {
        Spelling(letters, True) for letters in "house , ( 猫".split()
    }


def test_tokens_of_bytes_are_known_by_how_a_text_is_split_too():
    """They were read as letters, of which other tokenizers have none: Ġ, Ð, ..."""
    learned = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=False), vocab_size=380
    )
    expected, others = spellings(learned), unspelled(learned)
    backend = learned.backend_tokenizer
    for decoder in (decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()]), None):
        backend.decoder = decoder
        splits = [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        backend.pre_tokenizer = pre_tokenizers.Sequence(splits)
        assert spellings(learned) == expected and unspelled(learned) == others


def test_a_tokenizer_of_bytes_that_was_saved_without_a_decoder_gets_one(tmp_path):
    learned = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=False), vocab_size=380
    )
    text = "the house, дом"
    ids = learned(text, add_special_tokens=False).input_ids
    learned.backend_tokenizer.decoder = None
    learned.save_pretrained(tmp_path)
    assert "Ġ" in learned.decode(ids)
    with pytest.warns(UserWarning, match="was saved without a decoder"):
        loaded = load_tokenizer(str(tmp_path))
    assert loaded.decode(ids) == text
    assert loaded(text, add_special_tokens=False).input_ids == ids


def test_signs_that_are_split_off_are_spelled_as_where_a_space_is_marked():
    vocabulary = ["[UNK]", "house", "##se", ",", "##,", "(", "猫", "##猫"]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    bert = named(models.WordPiece(numbers, unk_token="[UNK]"), unk_token="[UNK]")
    plain = spellings(bert)
    assert plain[Spelling(",", True)] == 3 and plain[Spelling(",", False)] == 4
    bert.backend_tokenizer.normalizer = normalizers.BertNormalizer()
    bert.backend_tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    assert spellings(bert) == {
        Spelling("house", True): 1,
        Spelling("se", False): 2,
        Spelling(",", False): 3,
        Spelling("##,", False): 4,  # which no text has
        Spelling("(", True): 5,
        Spelling("猫", False): 6,
        Spelling("##猫", False): 7,
    }


def test_bytes_that_have_no_token_spell_nothing():
    some = {"<unk>": 0, "▁": 1, "<0xD0>": 2, "<0xB9>": 3}
    fallback = named(models.BPE(some, [], unk_token="<unk>", byte_fallback=True))
    assert spelled_in_bytes(fallback, "й".encode(), begins=True) == [1, 2, 3]
    assert spelled_in_bytes(fallback, "й".encode()) == [2, 3]
    assert spelled_in_bytes(fallback, "ж".encode()) == []


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
    assert not any(letters in ("[CLS]", "<s>", "") for letters, _, _ in found)
    assert not any(set(letters) & set("▁Ġ") or "##" in letters for letters, _, _ in found)


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
