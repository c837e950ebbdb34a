"""llama.cpp computes what torch does of the files, and tokenizes as the model's tokenizer does."""

import numpy as np
import pytest
import torch
from conftest import make_model, make_text, make_tokenizer
from exported import run_example
from gguf import GGMLQuantizationType as Kind
from test_gguf_files import WIDE, letters_bpe, source_of
from tokenizers import normalizers, pre_tokenizers

import limbeck
from limbeck.deploy.batches import example_of, feed_of
from limbeck.deploy.engines import open_file
from limbeck.deploy.export import export
from limbeck.deploy.exported_model import ExportedModel
from limbeck.deploy.formats import FORMATS, GGUF, GGUF_Q4, GGUF_Q8
from limbeck.deploy.gguf_files import bpe
from limbeck.deploy.gguf_files.write import make_gguf, write_gguf
from limbeck.deploy.settings import ExportSettings
from limbeck.deploy.source import load_source
from limbeck.errors import ExportError
from limbeck.export.sentence_transformers import SentenceSettings, export_sentence_model
from limbeck.models.sentence_transformers import Pooling
from limbeck.models.sentences.vectors import SentenceVectors
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer

DEFAULT = {"rope_type": "default", "rope_theta": 500.0}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}


def feeds(source):
    """One text of one token, of all that the model reads, and several of other lengths."""
    text = " ".join(make_text(20))
    whole = source.reader.read(example_of(text))
    ids = (whole.ids * 80)[: source.longest]
    many = [source.longest, *range(1, 60), *[1] * 40]  # more than are run at once
    for lengths in ([1], [source.longest], [7, 1, source.longest, 33], many):
        yield feed_of([type(whole)(ids[:length], [], [], []) for length in lengths], 3)


def check_file(source, file, *, within=0.02):
    found = open_file(file, 1)
    for feed in feeds(source):
        expected, other = source(feed), found(feed)
        assert other.shape == expected.shape
        real = feed["attention_mask"] > 0 if expected.ndim == 3 else slice(None)
        apart = np.abs(expected - other)[real].max()
        assert apart < within * np.abs(expected).max()


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", {"rope_parameters": DEFAULT, "attention_bias": True, "mlp_bias": True}),
        ("llama", {"rope_parameters": LLAMA_3, "tie_word_embeddings": True}),
        ("llama", {"rope_parameters": LINEAR, "rms_norm_eps": 0.1}),
        ("mistral", {"sliding_window": None, "head_dim": 32}),
        ("qwen2", {"rope_parameters": LINEAR}),
        ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    ],
)
def test_decoders(tmp_path, family, fields):
    source = source_of(tmp_path, family, **fields)
    make_gguf(source, make_text(3), Kind.F16, tmp_path / "model.gguf")
    check_file(source, tmp_path / "model.gguf")


def test_low_rank_layers_are_multiplied_out(tmp_path):
    source = source_of(tmp_path, "qwen2", rank=5)
    make_gguf(source, make_text(3), Kind.F16, tmp_path / "model.gguf")
    check_file(source, tmp_path / "model.gguf")


def encoder(folder, family, vectors=None, tokenizer=None):
    kind = "byte_bpe" if family == "roberta" else "wordpiece"
    tokenizer = tokenizer or make_tokenizer(kind, padding_id=1)
    model = make_model(family, vocabulary=len(tokenizer), layers=2, **WIDE)
    model.config.pad_token_id = 1
    if vectors is None:
        model.base_model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    else:
        settings = SentenceSettings(48, {"query": "the house "}, "query")
        export_sentence_model(model, tokenizer, vectors, folder, settings=settings, card="x")
    return load_source(str(folder))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_hidden_states(tmp_path, family):
    source = encoder(tmp_path / "model", family)
    make_gguf(source, make_text(3), Kind.F16, tmp_path / "model.gguf")
    check_file(source, tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("mode", "normalize"), [("mean", True), ("cls", False), ("lasttoken", True)]
)
def test_vectors(tmp_path, mode, normalize):
    vectors = SentenceVectors(64, pooling=Pooling((mode,)), normalize=normalize)
    source = encoder(tmp_path / "model", "bert", vectors)
    for kind, within in ((Kind.F16, 0.02), (Kind.Q8_0, 0.1)):
        make_gguf(source, make_text(3), kind, tmp_path / "model.gguf")
        check_file(source, tmp_path / "model.gguf", within=within)


def test_the_vectors_of_a_decoder(tmp_path):
    tokenizer = make_tokenizer("byte_bpe")
    model = make_model("qwen3", vocabulary=len(tokenizer), layers=2, **WIDE)
    vectors = SentenceVectors(64, pooling=Pooling(("lasttoken",)), normalize=True)
    settings = SentenceSettings(48)
    folder = tmp_path / "model"
    export_sentence_model(model, tokenizer, vectors, folder, settings=settings, card="x")
    source = load_source(str(folder))
    make_gguf(source, make_text(3), Kind.F16, tmp_path / "model.gguf")
    check_file(source, tmp_path / "model.gguf")


def white_space_as_spaces():
    """sentencepiece's table of characters for three that become a space."""
    trie = np.zeros(512, np.uint32)  # a double array: the root leads to 256 + a byte
    trie[0] = 256 << 10
    for leaf, byte in enumerate(b"\t\n\r", 100):
        trie[256 + byte] = byte | 1 << 8 | ((256 + byte) ^ leaf) << 10
        trie[leaf] = 1 << 31  # the text at 0
    return np.uint32(trie.nbytes).tobytes() + trie.tobytes() + b" \0"


def xlm_roberta_tokenizer():
    tokenizer = make_tokenizer("unigram")
    steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.backend_tokenizer.normalizer = normalizers.Precompiled(white_space_as_spaces())
    return tokenizer


def test_spaces_that_unigram_keeps_are_refused(tmp_path):
    """llama.cpp puts one more before those at the beginning of a text."""
    source = encoder(tmp_path / "model", "bert", tokenizer=make_tokenizer("unigram", padding_id=1))
    with pytest.raises(ExportError, match="tokenizes '  two  spaces"):
        make_gguf(source, ["the house"], Kind.F16, tmp_path / "model.gguf")


def test_other_tokenizers(tmp_path):
    text = make_text(200)
    learned = learn_tokenizer(text, blank_tokenizer("bytes", lowercase=False), vocab_size=300)
    for number, (family, tokenizer) in enumerate(
        [
            ("llama", learned),
            ("llama", letters_bpe()),
            ("llama", letters_bpe(prefixed=False)),
            ("bert", xlm_roberta_tokenizer()),
        ]
    ):
        model = make_model(family, vocabulary=len(tokenizer) + 3, layers=1, **WIDE)
        folder = tmp_path / str(number)
        (model if family == "llama" else model.base_model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        make_gguf(load_source(str(folder)), text[:20], Kind.Q8_0, folder / "model.gguf")


def test_another_tokenization_is_refused(monkeypatch, tmp_path):
    source = source_of(tmp_path, "llama")
    pairs = bpe._pairs
    monkeypatch.setattr(bpe, "_pairs", lambda model: pairs(model)[::-1])
    with pytest.raises(
        ExportError, match=r"tokenizes 'the .* otherwise than the model: it reads \["
    ):
        make_gguf(source, ["the old house"], Kind.F16, tmp_path / "model.gguf")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A decoder, and its folder of files."""
    folder = tmp_path_factory.mktemp("decoder")
    text = make_text(200)
    learned = learn_tokenizer(text, blank_tokenizer("bytes", lowercase=False), vocab_size=300)
    source_of(folder, "llama", learned)
    settings = ExportSettings(formats=(GGUF, GGUF_Q8, GGUF_Q4), keep=0.0, timed=False, threads=1)
    return (
        folder / "model",
        folder / "files",
        export(str(folder / "model"), folder / "files", settings),
    )


def test_files_of_a_decoder(decoder):
    model, files, result = decoder
    assert [one.format for one in result.candidates] == [GGUF, GGUF_Q8, GGUF_Q4]
    sizes = [one.megabytes for one in result.candidates]
    assert sizes == sorted(sizes, reverse=True)
    differences = [one.difference.largest for one in result.candidates]
    assert differences[0] < differences[1] < differences[2]
    loaded = limbeck.load(str(files))
    assert isinstance(loaded, ExportedModel) and loaded.format == GGUF_Q4  # the smallest
    source = load_source(str(model))
    exact = ExportedModel(files, format=GGUF, threads=1)
    [found] = exact.logits(["the old house"])
    reading = source.reader.read(example_of("the old house"))
    expected = source(feed_of([reading], 3))[0]
    assert found == pytest.approx(expected, abs=0.02 * float(np.abs(expected).max()))


def test_text_is_generated(decoder):
    model, files, _ = decoder
    source = load_source(str(model))
    exact = ExportedModel(files, format=GGUF, threads=1)
    tokenizer = source.tokenizer
    ids = [tokenizer.bos_token_id, *tokenizer("the old", add_special_tokens=False)["input_ids"]]
    expected = []
    for _ in range(12):
        with torch.inference_mode():
            token = int(source.module.model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
        expected.append(token)
    assert exact.generate("the old", max_new_tokens=12) == tokenizer.decode(expected)
    hot = {"max_new_tokens": 12, "temperature": 5.0}
    drawn = {exact.generate("the old", seed=seed, **hot) for seed in (1, 1, 2, 3)}
    assert len(drawn) == 3
    with pytest.raises(ExportError, match="reads 80 together"):
        exact.generate("the old", max_new_tokens=80)


def test_what_files_do_not_do(tmp_path):
    vectors = SentenceVectors(64, normalize=True)
    source = encoder(tmp_path / "model", "bert", vectors)
    file = tmp_path / "model.gguf"
    write_gguf(source, Kind.F16, file)
    found = open_file(file, 1)
    ids = np.full((1, 4), 5)
    pair = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0 + 1}
    with pytest.raises(ExportError, match="two texts of a pair"):
        found(pair)
    with pytest.raises(ExportError, match="only a decoder generates"):
        next(found.generate([1], 3))
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(ExportError, match=r"cannot load model\.gguf: .*; export it again"):
        open_file(file, 1)


def test_the_example_without_limbeck_runs(decoder):
    _, files, _ = decoder
    names = run_example("llama_cpp", files)
    loaded = ExportedModel(files, format=GGUF, threads=1)
    assert (files / FORMATS[GGUF].file).is_file()
    said = loaded.generate(names["prompt"], max_new_tokens=24)
    assert names["text"] == said.replace("\ufffd", "")  # llama-cpp-python drops broken letters
