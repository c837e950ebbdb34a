"""Folders of sentence-transformers that limbeck writes, read by it and by the library itself."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model, make_text, make_tokenizer
from sentence_transformers import SentenceTransformer

from limbeck.errors import ModelError, TrainingError
from limbeck.evaluation.embeddings.encode import load_text_encoder
from limbeck.export.sentence_transformers import SentenceSettings, export_sentence_model
from limbeck.models.load import load_body
from limbeck.models.sentence_transformers import Pooling
from limbeck.models.sentences.load import chain_of
from limbeck.models.sentences.vectors import ACTIVATIONS, Dense, SentenceVectors

TEXTS = [*make_text(9, seed=3), "дом", "Red HOUSE, old river!"]
PROMPTS = {"query": "the old ", "document": "red house: "}
MAKES = {
    "plain": {},
    "normalized": {"normalize": True},
    "cls and last": {"pooling": Pooling(("cls", "lasttoken"))},
    "all modes": {
        "pooling": Pooling(
            ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
        ),
        "normalize": True,
    },
    "without the prompt": {"pooling": Pooling(("mean",), include_prompt=False)},
    "weights without the prompt": {"pooling": Pooling(("weightedmean",), include_prompt=False)},
    "matryoshka": {"normalize": True, "truncate_dim": 10},
}


def write(folder, vectors, *, family="bert", kind="wordpiece", prompts=None, **settings):
    tokenizer = make_tokenizer(kind)
    model = make_model(family, vocabulary=len(tokenizer))
    settings = SentenceSettings(settings.pop("max_length", 20), prompts or {}, **settings)
    export_sentence_model(
        model, tokenizer, vectors, folder, settings=settings, card="# A student\n"
    )
    return str(folder)


def same_as_the_library(folder, *, prompt_name=None):
    mine = load_text_encoder(folder, precision="float32")
    theirs = SentenceTransformer(folder, device="cpu", local_files_only=True)
    prompt = mine.prompt(prompt_name) if prompt_name else ""
    found = mine.encode(TEXTS, prompt=prompt, batch_size=4)
    expected = theirs.encode(TEXTS, prompt_name=prompt_name, batch_size=4, show_progress_bar=False)
    assert np.abs(found - expected).max() < 1e-5
    assert found.shape == expected.shape == (len(TEXTS), mine.vectors.width)
    return mine


@pytest.mark.parametrize("make", MAKES)
def test_vectors_are_those_of_the_library(make, tmp_path):
    folder = write(tmp_path / "out", SentenceVectors(24, **MAKES[make]), prompts=PROMPTS)
    for prompt_name in (None, "query"):
        same_as_the_library(folder, prompt_name=prompt_name)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_layers_are_those_of_the_library(activation, tmp_path):
    torch.manual_seed(0)
    layers = [
        Dense(24, 16, activation=activation),
        Dense(16, 12, bias=False, activation=activation, residual=True),
        Dense(12, 12, activation="Identity", residual=True),
    ]
    vectors = SentenceVectors(24, dense=layers, normalize=True, truncate_dim=7)
    mine = same_as_the_library(write(tmp_path / "out", vectors))
    assert [layer.out_features for layer in mine.vectors.dense] == [16, 12, 12, 7]
    assert mine.vectors.truncate_dim is None  # the last layer does it


OTHERS = {
    "roberta": "byte_bpe",
    "modernbert": "byte_bpe",
    "mpnet": "wordpiece",
    "t5": "unigram",
    "llama": "byte_bpe",
    "qwen3": "unigram",
}


@pytest.mark.parametrize("family", OTHERS)
@pytest.mark.parametrize("mode", ["mean", "lasttoken"])
def test_other_families(family, mode, tmp_path):
    vectors = SentenceVectors(24, pooling=Pooling((mode,)))
    same_as_the_library(write(tmp_path / "out", vectors, family=family, kind=OTHERS[family]))


def test_a_tokenizer_without_a_padding_token_pads_with_its_end(tmp_path):
    tokenizer = make_tokenizer("byte_bpe")
    tokenizer.pad_token = None
    model = make_model("llama", vocabulary=len(tokenizer))
    given = {"settings": SentenceSettings(20), "card": "# A student\n"}
    vectors = SentenceVectors(24, pooling=Pooling(("lasttoken",)))
    folder = str(tmp_path / "out")
    export_sentence_model(model, tokenizer, vectors, folder, **given)
    assert tokenizer.pad_token is None
    same_as_the_library(folder)
    tokenizer.eos_token = tokenizer.unk_token = None
    with pytest.raises(ModelError, match="no token to pad texts with"):
        export_sentence_model(model, tokenizer, vectors, tmp_path / "none", **given)


def test_what_is_written_is_read_again(tmp_path):
    vectors = SentenceVectors(
        24,
        pooling=Pooling(("cls", "mean"), include_prompt=False),
        dense=[Dense(48, 8, activation="GELU")],
        normalize=True,
    )
    folder = write(tmp_path / "out", vectors, prompts=PROMPTS, default_prompt="query")
    chain = chain_of(folder)
    assert chain.pooling == vectors.pooling
    assert [(layer.folder.name, layer.activation) for layer in chain.dense] == [("2_Dense", "GELU")]
    assert (chain.normalize, chain.max_length, chain.lowercase) == (True, 20, False)
    assert (dict(chain.prompts), chain.default_prompt) == (PROMPTS, "query")
    assert (chain.similarity, chain.others) == ("cosine", ())
    mine = load_text_encoder(folder)
    written = mine.vectors.dense[0].state_dict()
    assert all(written[n].equal(weight) for n, weight in vectors.dense[0].state_dict().items())
    assert mine.default_prompt == PROMPTS["query"]
    assert load_body(folder).config.hidden_size == 24  # a plain transformers folder too


def test_only_what_version_2_0_knows_is_written(tmp_path):
    write(tmp_path / "out", SentenceVectors(24, normalize=True))
    pooling = json.loads((tmp_path / "out" / "1_Pooling" / "config.json").read_text())
    assert pooling == {
        "word_embedding_dimension": 24,
        "pooling_mode_cls_token": False,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    listed = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert [(module["path"], module["type"].rsplit(".", 1)[0]) for module in listed] == [
        (path, "sentence_transformers.models") for path in ("", "1_Pooling", "2_Normalize")
    ]
    assert (tmp_path / "out" / "2_Normalize").is_dir()


@pytest.mark.parametrize(
    ("pooling", "settings", "said"),
    [
        (("mean", "cls"), {}, "is mean \\+ cls, and .* concatenates cls \\+ mean"),
        (("mean", "mean"), {}, "each once"),
        (("mean",), {"default_prompt": "quer"}, "'quer' is none of the prompts \\(there are none"),
    ],
)
def test_what_the_form_cannot_hold_is_refused(pooling, settings, said, tmp_path):
    with pytest.raises(ModelError, match=said):
        write(tmp_path / "out", SentenceVectors(24, pooling=Pooling(pooling)), **settings)
    assert not (tmp_path / "out").exists()


def test_a_folder_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    write(folder, SentenceVectors(24))
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    def full(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr("limbeck.export.sentence_transformers.save_file", full)
    with pytest.raises(TrainingError, match="No space left on device; make room"):
        write(folder, SentenceVectors(24, dense=[Dense(24, 3)]))
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert [place.name for place in tmp_path.iterdir()] == ["out"]


def test_the_examples_of_the_guide_run(tmp_path, tokenizer):
    page = Path(__file__).parents[2] / "docs" / "guide" / "embeddings.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    student = make_model(vocabulary=len(tokenizer), hidden=192)
    names = {"student": student, "tokenizer": tokenizer, "folder": tmp_path / "out"}
    exec(compile(blocks[1], str(page), "exec"), names)
    names |= {"texts": TEXTS, "folder": str(tmp_path / "out")}
    exec(compile(blocks[0], str(page), "exec"), names)
    assert names["vectors"].shape == (len(TEXTS), 384)
