"""A vocabulary whose normalizer removes capitals or accents is noticed when it is loaded."""

import json
import unicodedata

import pytest
from conftest import make_model, make_text, make_tokenizer
from tokenizers import normalizers
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.errors import LimbeckError, ModelError
from limbeck.recipe.check import check
from limbeck.tokenization.folders import learn_vocabulary, trim_vocabulary
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.lost_letters import lost_tokens

CAPITALS = [text.title() for text in make_text(300)]
TYPE = {"model_type": "bert"}


def folder_of(place, tokens, **config):
    """A vocab.txt as in older models: without tokenizer.json, and with a configuration if given."""
    place.mkdir()
    (place / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    (place / "config.json").write_text(json.dumps(TYPE), encoding="utf-8")
    if config:
        (place / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(place)


@pytest.fixture(scope="module")
def cased():
    blank = blank_tokenizer("wordpiece", lowercase=False)
    vocabulary = learn_tokenizer(CAPITALS, blank, vocab_size=160).get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def test_an_unintended_lowercase_normalizer_is_refused(cased, tmp_path):
    folder = folder_of(tmp_path / "m", cased)
    with pytest.raises(ModelError, match="of the 160 tokens .* can never be made.*do_lower_case"):
        load_tokenizer(folder)


def test_following_the_message_solves_the_problem(cased, tmp_path):
    kept = load_tokenizer(folder_of(tmp_path / "kept", cased, do_lower_case=False))
    assert kept.tokenize(CAPITALS[0]) and "[UNK]" not in kept.tokenize(CAPITALS[0])
    with pytest.warns(UserWarning, match="can never be made"):
        small = load_tokenizer(folder_of(tmp_path / "small", cased, do_lower_case=True))
    assert not any(letter.isupper() for letter in small.decode(small("The Old")["input_ids"][1:-1]))


def test_an_intended_lowercase_normalizer_is_warned_of(cased, tmp_path):
    tokenizer = learn_tokenizer(
        CAPITALS, blank_tokenizer("wordpiece", lowercase=False), vocab_size=160
    )
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.save_pretrained(tmp_path / "saved")
    with pytest.warns(UserWarning, match="reads .* as"):
        load_tokenizer(str(tmp_path / "saved"))


@pytest.mark.parametrize(
    ("word", "read"), [("дай", "даи"), ("café", "cafe"), ("한국", None), ("が", "か")]
)
def test_lost_accents_are_noticed_too(tmp_path, word, read):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"абвг", word]
    with pytest.raises(ModelError, match='"strip_accents": false') as error:
        load_tokenizer(folder_of(tmp_path / "m", tokens))
    read = read or unicodedata.normalize("NFD", word)
    assert f"reads {word!r} as {read!r}" in str(error.value)
    config = {"do_lower_case": True, "strip_accents": False}
    kept = load_tokenizer(folder_of(tmp_path / "kept", tokens, **config))
    assert kept.tokenize(word) == [word]


MARKED = {
    "Hindi": "हिन्दी भाषा में कुछ शब्द",
    "Thai": "สวัสดี ครับ ผม ชื่อ",
    "Tamil": "தமிழ் மொழி அம்மா",
    "Hebrew": "שָׁלוֹם עוֹלָם",
    "Arabic": "كِتَابٌ مُدَرِّسٌ",
    "letters before their accents": unicodedata.normalize("NFD", "дай ёж"),
}


@pytest.mark.parametrize("name", MARKED)
def test_lost_vowel_signs_and_points_are_noticed_too(tmp_path, name):
    words = MARKED[name].split()
    letters = sorted({f"{side}{letter}" for letter in "".join(words) for side in ("", "##")})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *words]
    with pytest.raises(ModelError, match='write {"strip_accents": false}'):
        load_tokenizer(folder_of(tmp_path / "m", tokens))
    kept = load_tokenizer(folder_of(tmp_path / "kept", tokens, strip_accents=False))
    assert [kept.tokenize(word) for word in words] == [[word] for word in words]


@pytest.mark.parametrize("normalizer", [normalizers.NFC(), normalizers.NFKC(), normalizers.NFD()])
def test_marks_that_stay_beside_their_letters_are_no_problem(normalizer):
    """A mark may be composed with its letter or stand alone, and both tokens can occur."""
    texts = [normalizer.normalize_str(text) for text in [*MARKED.values(), "한국 が é"]] * 9
    blank = blank_tokenizer("wordpiece", lowercase=False)
    blank.backend_tokenizer.normalizer = normalizer
    assert lost_tokens(learn_tokenizer(texts, blank, vocab_size=150)) == []


def test_the_advice_follows_what_most_tokens_lose(tmp_path):
    words = MARKED["Hindi"].split()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, "İ"]
    tokens += [f"{first}{second}" for first in "abcdefgh" for second in "abcdefgh"]
    with pytest.raises(ModelError, match='write {"strip_accents": false}'):
        load_tokenizer(folder_of(tmp_path / "m", tokens))


def test_special_tokens_and_a_few_lost_ones_are_no_problem(cased, tmp_path):
    letters = [f"{a}{b}" for a in "abcdefghijklmnopqrst" for b in "abcdefghij"]
    unused = [f"[unused{n}]" for n in range(99)] + ["[UNUSED]", "<S>"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *unused, *letters, "İ", "ﬀ", "Ω", "é"]
    assert "[unused3]" in load_tokenizer(folder_of(tmp_path / "m", tokens)).get_vocab()


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "byte_bpe"])
def test_tokenizers_that_were_learned_with_their_normalizer_lose_nothing(kind):
    assert lost_tokens(make_tokenizer(kind)) == []


def test_the_vocabulary_of_the_demo_loses_nothing():
    tokenizer = load_tokenizer("minilm-demo")
    assert len(tokenizer) == 30_522 and lost_tokens(tokenizer) == []


def test_letters_of_byte_level_tokens_are_decoded_first():
    lowercase = learn_tokenizer(
        make_text(300), blank_tokenizer("bytes", lowercase=True), vocab_size=380
    )
    assert lost_tokens(lowercase) == []  # though Ð and Ñ stand for bytes of Cyrillic


def test_every_command_refuses_it(raw_recipe, cased, text_file, tmp_path):
    folder = folder_of(tmp_path / "m", cased)
    make_model(vocabulary=len(cased)).save_pretrained(folder)
    assert "can never be made" in dict(check({**raw_recipe, "teacher": folder})[1])["teacher.model"]
    student = {**raw_recipe["student"], "tokenizer": folder}
    found = dict(check({**raw_recipe, "student": student})[1])
    assert "can never be made" in found["student.tokenizer"]
    for make in (
        lambda out: trim_vocabulary(folder, [str(text_file)], out, vocab_size=100),
        lambda out: learn_vocabulary([str(text_file)], out, vocab_size=100, like=folder),
    ):
        with pytest.raises(LimbeckError, match="can never be made"):
            make(tmp_path / "out")
    run = CliRunner().invoke(app, ["evaluate", folder, "--task", "snips"])
    assert run.exit_code != 0
