"""BPE with several merges for each token, as converted from SentencePiece: kept tokens occur."""

import gzip
import json
from importlib.resources import files

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from limbeck.tokenization.merging import Merging, merge_pairs
from limbeck.tokenization.trim import count_tokens, trimmed_tokenizer
from limbeck.tokenization.trim_proof import prove

SPECIAL = ["<unk>", "<s>", "</s>"]


def all_merges(vocabulary):
    """Every pair of tokens that joins to a token, in the order of the joined tokens."""
    found = []
    for token, number in vocabulary.items():
        splits = [(token[:n], token[n:]) for n in range(1, len(token))]
        known = [pair for pair in splits if set(pair) <= vocabulary.keys()]
        found += sorted((number, *(vocabulary[part] for part in pair), *pair) for pair in known)
    return [(left, right) for *_, left, right in sorted(found)]


def bpe(vocabulary, *, spaces=True, added=SPECIAL, **options):
    """A tokenizer like that of Llama 2: a text is one word, and spaces are letters."""
    merges = all_merges(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", **options))
    if spaces:
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(added)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def numbered(tokens):
    return {token: number for number, token in enumerate(tokens)}


@pytest.fixture(scope="module")
def novels():
    packed = files("limbeck.demo").joinpath("novels.txt.gz").read_bytes()
    return gzip.decompress(packed).decode()[:200_000].splitlines()


@pytest.fixture(scope="module")
def english(novels):
    """1,500 tokens learned on English."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(novels, trainer)
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    return dict(sorted(vocabulary.items(), key=lambda pair: pair[1]))


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_a_kept_token_keeps_the_merges_that_really_make_it(ignore_merges):
    tokens = numbered("_ W h y _W _Wh Wh _Why Why".split())
    model = models.BPE(tokens, all_merges(tokens), ignore_merges=ignore_merges)
    full = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model))
    counts = {"_Why": 9, "Why": 8, "_W": 7}
    trimmed = trimmed_tokenizer(full, counts, vocab_size=8)
    assert len(trimmed) == 8
    assert trimmed.tokenize("_Why") == ["_Why"]
    assert trimmed.tokenize("_Why_Why_W") == ["_Why", "_Why", "_W"]


@pytest.mark.parametrize("spaces", [True, False], ids=["one word", "words"])
def test_no_word_whose_tokens_all_stay_is_tokenized_otherwise(novels, english, spaces):
    full = bpe(english, spaces=spaces)
    if not spaces:
        full.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    assert len(all_merges(english)) > len(english) + 300
    trimmed = trimmed_tokenizer(full, count_tokens(full, novels), vocab_size=700)
    assert len(trimmed) == 700
    proof = prove(full, trimmed, novels)
    assert proof.words > proof.all_stay > 2500
    assert proof.tokenized_otherwise == () and proof.lost == ()
    # And whole texts, where borders between words are no borders for the merges.
    kept = trimmed.get_vocab().keys()
    for text in novels[:2000]:
        before = full.tokenize(text)
        if kept >= set(before):
            assert trimmed.tokenize(text) == before


def test_every_token_that_stays_can_be_made(novels, english):
    full = bpe(english)
    trimmed = trimmed_tokenizer(full, count_tokens(full, novels[:300]), vocab_size=1000)
    model = trimmed.backend_tokenizer.model
    for token in trimmed.get_vocab().keys() - set(SPECIAL):
        assert [found.value for found in model.tokenize(token)] == [token]


def test_bytes_of_unknown_letters_stay(english):
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    full = bpe(numbered([*english, *names]), byte_fallback=True)
    trimmed = trimmed_tokenizer(full, {}, vocab_size=700)
    assert trimmed.tokenize("猫") == full.tokenize("猫") == ["▁", "<0xE7>", "<0x8C>", "<0xAB>"]


def test_a_token_that_is_never_made_does_not_displace_another():
    tokens = numbered("a b c ab bc abc cab <unk>".split())  # c+ab: from "cab" as a+b comes first
    merges = [("a", "b"), ("b", "c"), ("a", "bc"), ("c", "ab")]
    tokenizer = Tokenizer(models.BPE(tokens, merges, unk_token="<unk>"))
    full = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    assert full.tokenize("abc") == ["ab", "c"]
    trimmed = trimmed_tokenizer(full, {}, vocab_size=7)
    assert "abc" not in trimmed.get_vocab()
    assert trimmed.tokenize("cab") == full.tokenize("cab") == ["cab"]
    # Where whole words may be tokens without merges, it stays one as long as it stays at all.
    tokenizer.model = models.BPE(tokens, merges, unk_token="<unk>", ignore_merges=True)
    full = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    trimmed = trimmed_tokenizer(full, {"abc": 3}, vocab_size=5)
    assert trimmed.tokenize("abc") == full.tokenize("abc") == ["abc"]


def test_merges_in_both_notations_and_marks_of_words():
    vocabulary = numbered(["l", "##o", "##w", "##w</w>", "##ow</w>", "low</w>", "lo"])
    model = {
        "vocab": vocabulary,
        "merges": ["l ##o", "##o ##w</w>", "l ##ow</w>", "lo ##w</w>"],
        "continuing_subword_prefix": "##",
        "end_of_word_suffix": "</w>",
    }
    assert merge_pairs(model)[1] == ("##o", "##w</w>")
    assert Merging(model).made_of("low</w>") == {"l", "##o", "lo", "##w</w>", "low</w>"}
    assert Merging(model).made_of("##ow</w>") == {"##o", "##w</w>", "##ow</w>"}
    assert Merging({**model, "merges": []}).made_of("lo") == frozenset()


@pytest.mark.parametrize("added", ["<late>", "<extra>"])
def test_added_tokens_with_ids_between_those_of_the_model_stay(added):
    tokens = {"a": 0, "b": 2, "ab": 9, "c": 5, "<unk>": 1}
    tokenizer = Tokenizer(models.BPE(tokens, [("a", "b")], unk_token="<unk>"))
    tokenizer.add_special_tokens([added])
    full = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    trimmed = trimmed_tokenizer(full, {"ab": 1}, vocab_size=6)
    assert sorted(trimmed.get_vocab().values()) == list(range(6))
    assert trimmed.tokenize(f"ab{added}c") == ["ab", added, "c"]


def test_the_score_of_the_unknown_token_of_unigram_stays():
    scores = {"[UNK]": 0, "a": -3, "b": -9, "c": -9, "猫a": -12, "abc": -5, "rare": -20, "ab": -9}
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=0))
    full = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    assert full.tokenize("猫abc") == ["猫a", "b", "c"]
    trimmed = trimmed_tokenizer(full, {"猫a": 3, "abc": 2}, vocab_size=7)
    assert "ab" not in trimmed.get_vocab()
    assert trimmed.tokenize("猫abc") == ["猫a", "b", "c"]
