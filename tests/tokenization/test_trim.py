"""Trimmed tokenizers: what stays is tokenized as before, nothing known becomes unknown."""

import json
from dataclasses import asdict

import pytest
from conftest import make_model, make_text, make_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from limbeck.errors import DataError
from limbeck.tokenization.folders import trim_vocabulary
from limbeck.tokenization.learn import KINDS, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.text_coverage import coverage
from limbeck.tokenization.trim import count_tokens, trimmed_tokenizer
from limbeck.tokenization.vocabulary_report import vocabulary_headline, vocabulary_table

TEXTS = make_text(300)


@pytest.fixture(params=KINDS)
def learned(request):
    return learn_tokenizer(
        TEXTS,
        blank_tokenizer(request.param, lowercase=False),
        vocab_size={"wordpiece": 140, "unigram": 66, "bytes": 380}[request.param],
    )


def test_keeping_all_used_tokens_changes_no_text(learned, tmp_path):
    counts = count_tokens(learned, TEXTS[:2])
    trimmed = trimmed_tokenizer(learned, counts, fraction=1.0)
    assert len(trimmed) < len(learned)
    trimmed.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    for text in TEXTS[:2]:
        assert again.tokenize(text) == learned.tokenize(text)
        both = [
            one.convert_ids_to_tokens(one(text, "дом")["input_ids"]) for one in (again, learned)
        ]
        assert both[0] == both[1]
    assert again.special_tokens_map == learned.special_tokens_map


def test_fewer_tokens_still_spell_the_text(learned):
    counts = count_tokens(learned, TEXTS)
    size = len(learned) - 10
    trimmed = trimmed_tokenizer(learned, counts, vocab_size=size)
    assert len(trimmed) == size
    assert set(trimmed.get_vocab()) < set(learned.get_vocab())
    assert sorted(trimmed.get_vocab().values()) == list(range(size))
    for text in TEXTS[:50]:
        tokens = trimmed(text, add_special_tokens=False)["input_ids"]
        assert trimmed.unk_token_id not in tokens
        assert trimmed.decode(tokens) == learned.decode(
            learned(text, add_special_tokens=False)["input_ids"]
        )


def test_the_merges_of_a_kept_token_stay(learned):
    model = json.loads(
        trimmed_tokenizer(
            learned, count_tokens(learned, TEXTS), vocab_size=len(learned) - 10
        ).backend_tokenizer.to_str()
    )["model"]
    if model["type"] != "BPE":
        return
    made = {left + right for left, right in model["merges"]}
    assert {token for token in model["vocab"] if len(token) > 1 and "<" not in token} <= made


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "byte_bpe"])
def test_special_tokens_stay_around_a_text(kind):
    tokenizer = make_tokenizer(kind)
    trimmed = trimmed_tokenizer(tokenizer, count_tokens(tokenizer, TEXTS[:5]), fraction=0.9)
    for one in (trimmed, tokenizer):
        around = one.convert_ids_to_tokens(one("дом")["input_ids"])
        assert (around[0], around[-1]) == ("[CLS]", "[SEP]")
    assert trimmed.mask_token_id == trimmed.convert_tokens_to_ids("[MASK]")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 3}, r"3 tokens were requested, but .* are already \d+"),
        ({"vocab_size": 100_000}, "100000 tokens were requested of"),
        ({"vocab_size": 0}, "vocab_size is 0; give 1 or more"),
        ({"fraction": 0.0}, "the fraction is 0.0"),
        ({}, "either a size .* or the fraction"),
        ({"vocab_size": 100, "fraction": 0.9}, "either a size .* or the fraction"),
    ],
)
def test_impossible_sizes_leave_no_folder(teacher_folder, text_file, tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        trim_vocabulary(str(teacher_folder), [str(text_file)], tmp_path / "v", **options)
    assert not list(tmp_path.iterdir())


def test_the_report_names_both_tokenizers(teacher_folder, text_file, tmp_path):
    report = trim_vocabulary(
        str(teacher_folder), [str(text_file)], tmp_path / "v", fraction=0.95, characters=2000
    )
    written = json.loads((tmp_path / "v" / "report.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(report))
    assert report["shared_tokens"] == report["tokens"] < report["like_tokens"]
    assert report["embedding_bytes_saved"] > 0
    facts = report["texts"][str(text_file)]
    assert facts["this"]["tokens_per_word"] >= facts["like"]["tokens_per_word"] >= 1
    assert facts["this"]["unknown_share"] == 0


def test_coverage_by_hand():
    tokenizer = make_tokenizer("wordpiece")
    found = coverage(tokenizer, ["the дом 猫", "", "猫猫 the"])
    lengths = [len(tokenizer.tokenize(word)) for word in ("the", "дом", "猫", "猫猫", "the")]
    assert found.words == 5
    assert found.tokens_per_word == pytest.approx(sum(lengths) / 5)
    assert (found.letters, found.letters_not_covered) == (7, ("猫",))
    unknown = sum(tokenizer.tokenize(t).count("[UNK]") for t in ("the дом 猫", "猫猫 the"))
    assert found.unknown_share == pytest.approx(unknown / sum(lengths))
    assert found.unknown_letters_share == pytest.approx(3 / 12)
    assert set("".join(found.unknown_words)) == {"猫"}


def test_words_whose_letters_are_known_but_not_inside_a_word_are_named():
    vocabulary = {"[UNK]": 0, "a": 1, "b": 2, "##b": 3}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    found = coverage(tokenizer, ["ab ba ba a"])
    assert found.letters_not_covered == ()
    assert found.unknown_words == ("ba",) and found.unknown_share == pytest.approx(2 / 5)
    report = {"like": "x", "texts": {"t": {"this": asdict(found)}}}
    assert vocabulary_table(report)[1][-1] == "none, but words: ba"


def test_letters_are_counted_where_one_unknown_token_stands_for_many():
    found = coverage(make_tokenizer("wordpiece"), ["the " * 50 + "猫" * 150])
    assert found.unknown_share < 0.9 and found.unknown_letters_share == pytest.approx(150 / 300)
    long = make_tokenizer("wordpiece")  # whose words have at most 100 letters
    found = coverage(long, ["the " * 100 + "the" * 100])
    assert found.unknown_share == pytest.approx(1 / 101)
    assert found.unknown_letters_share == pytest.approx(1 / 2)
    report = {"like": "x", "texts": {"t": {"this": asdict(found)}}}
    assert vocabulary_table(report)[1][-2] == "0.9901% (50.0% of the letters)"
    assert vocabulary_table(report)[1][-1] == "none, but words: " + "the" * 10


@pytest.mark.parametrize("kind", ["learned", "trimmed"])
def test_what_a_model_says_of_its_texts_stays(tmp_path, kind):
    """A chat template and the sides of padding and truncation are no part of the vocabulary."""
    whole = make_tokenizer("byte_bpe")
    whole.chat_template = "{% for m in messages %}[CLS]{{ m['content'] }}[SEP]{% endfor %}"
    whole.padding_side = whole.truncation_side = "left"
    counts = count_tokens(whole, TEXTS)
    small = (
        trimmed_tokenizer(whole, counts, vocab_size=len(whole) - 10)
        if kind == "trimmed"
        else learn_tokenizer(TEXTS, whole, vocab_size=len(whole) - 10)
    )
    small.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    turns = [{"role": "user", "content": "the red house"}]
    said = again.apply_chat_template(turns, tokenize=False)
    assert said == whole.apply_chat_template(turns, tokenize=False) == "[CLS]the red house[SEP]"
    assert (again.padding_side, again.truncation_side) == ("left", "left")
    assert again.clean_up_tokenization_spaces == whole.clean_up_tokenization_spaces


@pytest.mark.parametrize(("family", "width"), [("bert", 24), ("albert", 8)])
def test_the_report_counts_the_rows_of_the_table(family, width, text_file, tmp_path):
    """Of families whose embeddings are narrower than their states, too."""
    tokenizer = make_tokenizer("wordpiece")
    model = make_model(family, vocabulary=len(tokenizer))
    assert model.get_input_embeddings().embedding_dim == width
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    report = trim_vocabulary(
        str(tmp_path / "model"), [str(text_file)], tmp_path / "v", vocab_size=150
    )
    assert report["embedding_bytes_saved"] == (len(tokenizer) - 150) * width * 4
    assert "lose 0.0 MB" in vocabulary_headline(report)
    more = {"tokens": 5, "shared_tokens": 3, "like": "x", "embedding_bytes_saved": -2_000_000}
    assert "gain 2.0 MB" in vocabulary_headline(more)


def test_the_tokens_of_a_chat_template_stay(tmp_path):
    """Its system prompt too, which it has where a conversation has none."""
    whole = make_tokenizer("byte_bpe", vocabulary=300)
    whole.chat_template = (
        "{% if messages[0].role != 'system' %}old house{% endif %}"
        "{% for m in messages %}[SEP]river\n{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}evening{% endif %}"
    )
    whole.save_pretrained(tmp_path / "whole")
    text = tmp_path / "russian.txt"
    text.write_text("красный старый дом\n" * 30, encoding="utf-8")
    trim_vocabulary(str(tmp_path / "whole"), [str(text)], tmp_path / "small", fraction=0.9)
    small = load_tokenizer(str(tmp_path / "small"))
    for said in ("old house", "river\n", "evening"):
        assert small.tokenize(said) == whole.tokenize(said)
    assert small.tokenize("letter") != whole.tokenize("letter")
    with pytest.raises(DataError, match="its chat template\\) are already"):
        trim_vocabulary(str(tmp_path / "whole"), [str(text)], tmp_path / "few", vocab_size=270)
