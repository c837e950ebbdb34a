"""Files with rounded weights: what a stage learns through is what the file computes."""

from functools import cache

import numpy as np
import onnx
import pytest
import torch
from conftest import make_model, make_tokenizer

from limbeck.deploy.engines import open_file
from limbeck.deploy.export import export
from limbeck.deploy.onnx_files import weight_only
from limbeck.deploy.onnx_files.graphs import (
    float32_graph,
    int8_graph,
    static_int8_graph,
    weight_only_graph,
    write_graph,
)
from limbeck.deploy.settings import ExportSettings
from limbeck.deploy.source import load_source
from limbeck.models.families import ARCHITECTURES
from limbeck.student.low_rank import Rank, chosen_layers, factorize_layers
from limbeck.student.rounding import round_layers
from limbeck.system.int8_range import int8_range


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model with its float32 file, by its family and whether its head is tied."""

    @cache
    def of(family, tied):
        folder, tokenizer = tmp_path_factory.mktemp(family), make_tokenizer()
        fields = {"tie_word_embeddings": tied, "hidden": 32}
        model = make_model(family, vocabulary=len(tokenizer), layers=1, **fields)
        model.config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        source = load_source(str(folder))
        write_graph(float32_graph(source), folder / "model.onnx")
        return source, folder / "model.onnx"

    return of


def text_of(source, rows=1, tokens=33):
    ids = np.random.default_rng(0).integers(5, source.vocabulary, (rows, tokens))
    zeros, ones = np.zeros_like(ids), np.ones_like(ids)
    return {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}


def through_rounding(source, rounding, feed):
    round_layers(source.module.model, rounding)
    found = source(feed)
    round_layers(source.module.model, None)
    return found


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_a_stage_learns_through_the_rounding_of_the_int8_file(family, made, tmp_path):
    source, file = made(family, family != "llama")
    feed = text_of(source)
    exact = source(feed)
    for rounding in ("int8", "int8_reduced"):
        write_graph(int8_graph(file, reduced=rounding == "int8_reduced"), tmp_path / "q.onnx")
        found = open_file(tmp_path / "q.onnx", 1)(feed)
        rounded = through_rounding(source, rounding, feed)
        same, off = np.isclose(rounded, found, atol=1e-5), np.abs(rounded - found).mean()
        if rounding == "int8" and int8_range().reduced:
            assert off > np.abs(rounded - exact).mean()  # sums of 8 bits saturate here
            continue
        # A number between two levels may fall on either side: some, not all, may differ.
        assert same.mean() > 0.9
        assert off < 0.05 * np.abs(exact - found).mean()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_and_of_the_int4_file(family, tied, made, tmp_path, monkeypatch):
    """In float32, as the file's own rounding of activations is none that a stage learns through."""
    monkeypatch.setattr(weight_only, "_COMPUTES_IN_INT8", 0)
    source, file = made(family, tied)
    feed = text_of(source, rows=2)
    for bits in (4, 8):
        graph = weight_only_graph(file, bits=bits, vocabulary=source.vocabulary)
        write_graph(graph, tmp_path / "q.onnx")
        found = open_file(tmp_path / "q.onnx", 1)(feed)
        if bits == 4:
            assert found == pytest.approx(through_rounding(source, "int4", feed), abs=1e-4)
        assert np.abs(found - source(feed)).max() > 1e-4
    stored = onnx.load(tmp_path / "q.onnx").graph.initializer
    rows = [one for one in stored if one.dims and one.dims[0] == source.vocabulary]
    numbers = [one for one in rows if np.prod(one.dims) == source.vocabulary * 32]
    assert len(numbers) == (1 if tied else 2)  # a tied table is stored once
    assert all(one.data_type != onnx.TensorProto.FLOAT for one in numbers)


def test_fixed_ranges_give_a_text_the_same_answer_in_any_batch(made, tmp_path):
    source, file = made("bert", True)
    feeds = [text_of(source, rows=4)]
    graph = static_int8_graph(file, feeds, reduced=int8_range().reduced)
    write_graph(graph, tmp_path / "q.onnx")
    run = open_file(tmp_path / "q.onnx", 1)
    feed = text_of(source, rows=4)
    alone = np.concatenate([run({n: a[[row]] for n, a in feed.items()}) for row in range(4)])
    together = run(feed)
    assert alone == pytest.approx(together, abs=1e-6)
    assert 1e-4 < np.abs(together - source(feed)).max() < 0.2 * np.abs(together).max()


def test_low_rank_layers_are_two_thin_products(tmp_path):
    tokenizer = make_tokenizer()
    model = make_model("llama", vocabulary=len(tokenizer), layers=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    paths = chosen_layers(model, ARCHITECTURES["llama"], "feed_forward")
    factorize_layers(model, paths, Rank(number=5))
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    settings = ExportSettings(formats=("onnx", "onnx-int8"), keep=0.0, timed=False, threads=1)
    export(str(tmp_path / "model"), tmp_path / "files", settings)
    source = load_source(str(tmp_path / "model"))
    feed = text_of(source, rows=2)
    found = open_file(tmp_path / "files" / "model.onnx", 1)(feed)
    with torch.inference_mode():
        assert found == pytest.approx(source(feed), abs=1e-4)
    stored = onnx.load(tmp_path / "files" / "model.onnx").graph.initializer
    assert sum(5 in one.dims for one in stored) == 2 * len(paths)
