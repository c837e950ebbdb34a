"""The proof of a trim covers every token of the text, also those that begin with spaces."""

import json

import pytest
from conftest import make_text
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from limbeck.errors import DataError
from limbeck.tokenization import folders as vocabulary
from limbeck.tokenization.folders import trim_vocabulary
from limbeck.tokenization.learn import KINDS, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.trim import count_tokens, trimmed_tokenizer
from limbeck.tokenization.trim_proof import prove

TEXTS = [f"{text}\n\n   {text.title()}  " for text in make_text(300)]


def without_merges(tokenizer, *made, **model):
    """A tokenizer that lacks the merges of some of its tokens."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = settings["model"]["merges"]
    settings["model"]["merges"] = [pair for pair in merges if "".join(pair) not in made]
    settings["model"] |= model
    assert len(settings["model"]["merges"]) < len(merges)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(settings)), **tokenizer.special_tokens_map
    )


@pytest.fixture(scope="module")
def in_bytes():
    full = learn_tokenizer(TEXTS, blank_tokenizer("bytes", lowercase=False), vocab_size=420)
    trimmed = trimmed_tokenizer(full, count_tokens(full, TEXTS), vocab_size=380)
    return full, trimmed


@pytest.mark.parametrize("trim_offsets", [True, False])
def test_lost_tokens_that_begin_with_a_space_are_noticed(in_bytes, trim_offsets):
    full, trimmed = in_bytes
    for each in in_bytes:
        each.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    sound = prove(full, trimmed, TEXTS)
    assert sound.tokenized_otherwise == sound.lost == () and sound.all_stay > 30
    begin = [token for token in trimmed.get_vocab() if token.startswith("Ġ") and len(token) > 1]
    used = set(count_tokens(full, TEXTS)) & set(begin)
    assert len(used) > 10 and "ĠĠ" in used
    proof = prove(full, without_merges(trimmed, *begin), TEXTS)
    assert set(proof.lost) >= used
    assert " River" in proof.tokenized_otherwise


def test_one_lost_merge_is_noticed(in_bytes):
    full, trimmed = in_bytes
    proof = prove(full, without_merges(trimmed, "ĠRiver"), TEXTS)
    assert proof.lost == ("ĠRiver",) and " River" in proof.tokenized_otherwise


def test_words_without_merges_do_not_hide_a_missing_merge():
    tokens = {token: n for n, token in enumerate(["Ġ", "a", "b", "c", "Ġa", "Ġab"])}
    full = of_bytes(tokens, [("Ġ", "a"), ("Ġa", "b")], ignore_merges=True)
    broken = without_merges(full, "Ġab")
    assert broken.tokenize(" ab") == ["Ġab"]
    proof = prove(full, broken, ["c ab abc"])
    assert (
        proof.tokenized_otherwise == (" ab",) and proof.lost == ()
    )  # it is made where it is a word


def of_bytes(tokens, merges, **options):
    backend = Tokenizer(models.BPE(tokens, merges, **options))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize("text", ["the red the", "\n\n\nthe", "the red\t", "the  the"])
def test_tokens_of_and_across_white_space_are_noticed(text):
    """A tokenizer as in some SentencePiece models: without words, and tokens of any letters."""
    letters = ["<unk>", *"▁\n\tthered"]
    pairs = ["▁▁", "\n\n", "e▁", "e▁r", "he", "d\t", "ed", "red"]
    tokens = {token: n for n, token in enumerate(dict.fromkeys([*letters, *pairs]))}
    merges = [(t[:n], t[n:]) for t in pairs for n in range(1, len(t))]
    merges = [pair for pair in merges if set(pair) <= tokens.keys()]
    backend = Tokenizer(models.BPE(tokens, merges, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    full = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    white = [token for token in full.tokenize(text) if token[1:] and set(token) & set("▁\n\t")]
    assert white and prove(full, full, [text]).tokenized_otherwise == ()
    for token in white:
        assert token in prove(full, without_merges(full, token), [text]).lost


def test_spelled_special_tokens_are_read_in_the_proof_as_in_the_counts(in_bytes):
    full, trimmed = in_bytes
    for text in ("a<s> red", "</s>", "red <unk>"):
        proof = prove(full, trimmed, [text])
        assert proof.tokenized_otherwise == proof.lost == ()
        assert not set(count_tokens(full, [text])) & set(full.all_special_tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_proved_at_some_sizes(kind):
    size = {"wordpiece": 140, "unigram": 90, "bytes": 380}[kind]
    full = learn_tokenizer(TEXTS, blank_tokenizer(kind, lowercase=False), vocab_size=size)
    texts = [*TEXTS[:40], "", " ", "猫 🙂 the"]
    for less in (1, 5, 12):
        trimmed = trimmed_tokenizer(full, count_tokens(full, texts), vocab_size=size - less)
        proof = prove(full, trimmed, texts)
        assert proof.tokenized_otherwise == proof.lost == ()


def test_equally_likely_tokenizations_are_no_problem():
    def unigram(**scores):
        model = models.Unigram([("?", -9.0), *scores.items()], unk_id=0)
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="?")

    full = unigram(a=-3.0, aa=-4.1, b=-2.3)
    assert sorted(full.tokenize("baaa")) == ["a", "aa", "b"]
    assert prove(full, unigram(a=-3.0, aa=-4.1 + 1e-14, b=-2.3), ["baaa"]).tokenized_otherwise == ()
    proof = prove(full, unigram(a=-2.0, aa=-4.1, b=-2.3), ["baaa"])
    assert proof.tokenized_otherwise and proof.lost == ("aa",)


def test_unused_tokens_beside_removed_ones_are_reported_separately():
    """Without "cd" the letters of "abcd" are merged in another order."""
    names = ["a", "b", "c", "d", "cd", "bc", "ab", "x"]
    merges = [("c", "d"), ("b", "c"), ("a", "b")]
    tokens = {token: n for n, token in enumerate(names)}
    full = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(tokens, merges)))
    trimmed = trimmed_tokenizer(full, {"ab": 9, "bc": 8}, vocab_size=7)
    assert full.tokenize("abcd") == ["ab", "cd"] and trimmed.tokenize("abcd") == ["a", "bc", "d"]
    proof = prove(full, trimmed, ["abcd"])
    assert proof.tokenized_otherwise == proof.lost == () and proof.unused == ("ab",)
    assert prove(full, trimmed, ["abcd", "abx"]).unused == ()


def test_the_command_names_tokens_that_are_never_made(tmp_path, monkeypatch):
    full = learn_tokenizer(TEXTS, blank_tokenizer("bytes", lowercase=False), vocab_size=420)
    full.save_pretrained(tmp_path / "full")
    (tmp_path / "text.txt").write_text(
        "\n".join(t.title() for t in make_text(300)), encoding="utf-8"
    )

    def broken(*given, **options):
        return without_merges(trimmed_tokenizer(*given, **options), "ĠRiver", "ĠLetter")

    monkeypatch.setattr(vocabulary, "trimmed_tokenizer", broken)
    with pytest.raises(DataError, match=r"2 tokens .*never be made \(ĠLetter, ĠRiver\)"):
        trim_vocabulary(
            str(tmp_path / "full"), [str(tmp_path / "text.txt")], tmp_path / "v", vocab_size=380
        )
    assert not (tmp_path / "v").exists()
