"""Learned tokenizers: any text survives, the rules of a model are kept, bad sizes are refused."""

import json
from itertools import islice

import pytest
from rich.console import Console
from tokenizers import AddedToken, Tokenizer, models

from limbeck.data.text import TextSource, read_documents
from limbeck.demo.run import HERE
from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.tokenization.folders import learn_vocabulary, trim_vocabulary
from limbeck.tokenization.learn import KINDS, as_transformers, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.nested import learn_nested
from limbeck.tokenization.text_coverage import coverage

TEXT = ["Ёжик и ёлка, кот и пёс; ночь, улица.", "It was naïve: no cat, 12,5 dogs.", "être — là-bas"]
TRICKY = "Ёжик, it was naïve: être 12,5 — 日本 😀 e\u0301."


@pytest.fixture(scope="module")
def documents():
    novels = islice(read_documents(TextSource(str(HERE / "novels.txt.gz"))), 300)
    return [*novels, *TEXT * 50]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lowercase", [True, False])
def test_a_saved_tokenizer_treats_text_alike(documents, kind, lowercase, tmp_path):
    learned = learn_tokenizer(documents, blank_tokenizer(kind, lowercase=lowercase), vocab_size=400)
    learned.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    assert len(again) == len(learned)
    for text in (*TEXT, TRICKY):
        assert again(text, "ёж")["input_ids"] == learned(text, "ёж")["input_ids"]
    known = again(TEXT[0])["input_ids"]
    assert again.unk_token_id not in known
    assert again.decode(known, skip_special_tokens=True).replace(" ", "").lower() in {
        TEXT[0].replace(" ", "").lower(),
        TEXT[0].replace(" ", "").lower().replace("ё", "е"),
    }


def test_bytes_tokenize_any_text(documents):
    learned = learn_tokenizer(documents, blank_tokenizer("bytes", lowercase=False), vocab_size=400)
    assert learned.decode(learned(TRICKY)["input_ids"]) == TRICKY


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_encoders_get_the_special_tokens_that_masking_needs(documents, kind):
    learned = learn_tokenizer(documents, blank_tokenizer(kind, lowercase=True), vocab_size=400)
    tokens = learned.convert_ids_to_tokens(learned("cat", "кот")["input_ids"])
    assert tokens[0] == "[CLS]" and tokens.count("[SEP]") == 2
    assert learned.mask_token == "[MASK]" and learned.pad_token == "[PAD]"
    assert learned.convert_ids_to_tokens(learned("日")["input_ids"])[-2] == "[UNK]"


def test_the_pattern_of_a_model_is_kept(tmp_path, teacher_folder):
    learn_vocabulary(
        [str(HERE / "novels.txt.gz")],
        tmp_path / "v",
        vocab_size=300,
        like=str(teacher_folder),
        characters=20000,
    )
    mine, theirs = (
        json.loads(load_tokenizer(name).backend_tokenizer.to_str())
        for name in (str(tmp_path / "v"), str(teacher_folder))
    )
    assert mine["normalizer"] == theirs["normalizer"]
    assert mine["pre_tokenizer"] == theirs["pre_tokenizer"]
    assert len(mine["model"]["vocab"]) == 300


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learn", [learn_tokenizer, learn_nested])
def test_added_tokens_that_are_not_special_are_kept(documents, kind, learn, tmp_path):
    like = learn_tokenizer(documents, blank_tokenizer(kind, lowercase=False), vocab_size=500)
    given = AddedToken("<think>", normalized=False), AddedToken("ёжик", single_word=True)
    like.add_tokens([*given])
    like.add_tokens([AddedToken("<stop>", rstrip=True)], special_tokens=True)
    learned = learn(documents, like, vocab_size=400)
    assert len(learned) == 400
    learned.save_pretrained(tmp_path)
    for tokenizer in (learned, load_tokenizer(str(tmp_path))):
        found = {str(token): token for token in tokenizer.added_tokens_decoder.values()}
        for token in given:
            assert found[str(token)] == token and not found[str(token)].special
        assert found["<stop>"].special and found["<stop>"].rstrip
        assert {"<think>", "ёжик"} <= {*tokenizer.tokenize("a <think> ёжик")}
        assert like.all_special_tokens == tokenizer.all_special_tokens


def test_characters_bounds_what_is_read_of_each_text(tmp_path):
    (tmp_path / "long.txt").write_text("aaaa bbbb\n" * 5000, encoding="utf-8")
    (tmp_path / "short.txt").write_text("xyxy zyzy\n" * 50, encoding="utf-8")
    console = Console(record=True, width=200)
    learn_vocabulary(
        [str(tmp_path / "long.txt"), str(tmp_path / "short.txt")],
        tmp_path / "v",
        vocab_size=23,
        characters=450,
        console=console,
    )
    assert console.export_text().count("450 characters read") == 2
    assert {"a", "##b", "z", "##y"} <= set(load_tokenizer(str(tmp_path / "v")).get_vocab())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"vocab_size": 10}, DataError, r"10 tokens are fewer than the letters .* \(\d+\)"),
        (
            {"vocab_size": 100_000},
            DataError,
            r"the text gives \d+ tokens, and 100000 were requested",
        ),
        ({"vocab_size": 10, "kind": "unigram"}, DataError, "10 tokens are fewer than the letters"),
        ({"vocab_size": 0}, DataError, "vocab_size is 0; give 1 or more"),
        ({"vocab_size": 90, "characters": 0}, DataError, "characters is 0"),
        ({"vocab_size": 90, "kind": "words"}, RecipeError, "use one of wordpiece, unigram, bytes"),
        ({"vocab_size": 90, "like": "./nowhere"}, ModelError, "nowhere"),
    ],
)
def test_bad_sizes_and_kinds_leave_no_folder(options, error, message, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(TEXT * 50), encoding="utf-8")
    with pytest.raises(error, match=message):
        learn_vocabulary([str(tmp_path / "text.txt")], tmp_path / "v", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["text.txt"]


def test_a_tokenizer_with_tokens_of_single_bytes_is_refused():
    tokens = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}, "a": 257}
    model = models.BPE(tokens, [], unk_token="<unk>", byte_fallback=True)
    like = as_transformers(Tokenizer(model), {"unk_token": "<unk>"})
    with pytest.raises(DataError, match="tokens of single bytes .* `--kind bytes`, or keep"):
        learn_tokenizer(["a a"], like, vocab_size=10)


def test_only_a_vocabulary_is_replaced(tmp_path, teacher_folder):
    text, folder = str(HERE / "novels.txt.gz"), tmp_path / "work"
    folder.mkdir()
    options = {"vocab_size": 200, "characters": 20_000}
    learn_vocabulary([text], folder, **options)  # an empty folder has nothing to lose
    learn_vocabulary([text], folder, **options)
    (tmp_path / "thesis.txt").write_text("years of work")
    for wrong in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(RecipeError, match=r"would be replaced, and it holds .*thesis\.txt"):
            learn_vocabulary([text], wrong, **options)
        with pytest.raises(RecipeError, match="would be replaced"):
            trim_vocabulary(str(teacher_folder), [text], wrong, vocab_size=150)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    (folder / "notes.txt").write_text("years of work")
    with pytest.raises(RecipeError, match=r"it holds notes\.txt, which this command has not made"):
        learn_vocabulary([text], folder, **options)
    (folder / "notes.txt").unlink()
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(RecipeError, match=r"holds a model \(model\.safetensors\).*--with-model"):
        trim_vocabulary(str(teacher_folder), [text], folder, vocab_size=150)


@pytest.mark.parametrize("options", [{"kind": "bytes"}, {"lowercase": True}])
def test_kind_and_lowercase_are_refused_beside_a_model(tmp_path, teacher_folder, options):
    with pytest.raises(RecipeError, match="are those of .*leave them out"):
        learn_vocabulary(
            ["x.txt"], tmp_path / "v", vocab_size=9, like=str(teacher_folder), **options
        )


def test_space_before_the_first_word_belongs_to_it():
    tokenizer = learn_tokenizer(
        TEXT * 50, blank_tokenizer("bytes", lowercase=False), vocab_size=270
    )
    text = "  кот и  пёс"
    found = coverage(tokenizer, [text])
    assert found.words == 3 and found.tokens == len(tokenizer(text)["input_ids"])
