"""Files of tiny models say what the models say in torch."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir
import pytest
import torch
from conftest import HEADS, make_model, make_text, with_task_head
from exported import answered_task, model_folder, run_example
from transformers import AutoTokenizer

import limbeck
from limbeck.cli.main import main
from limbeck.deploy import export as exporting
from limbeck.deploy import making
from limbeck.deploy.batches import example_of, feed_of
from limbeck.deploy.compare import difference_of
from limbeck.deploy.engines import open_file
from limbeck.deploy.export import export
from limbeck.deploy.exported_model import ExportedModel
from limbeck.deploy.formats import FLOAT32, FORMATS, FUSED, INT8
from limbeck.deploy.settings import ExportSettings
from limbeck.deploy.source import load_source
from limbeck.errors import ExportError
from limbeck.run.task_answers import answers_of, task_side
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer

FILES = {name: FORMATS[name].file for name in (FLOAT32, FUSED, INT8)}
ALL = ExportSettings(formats=tuple(FILES), keep=0.0, timed=False, threads=1)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A classifier of pairs, and its folder of files."""
    folder = tmp_path_factory.mktemp("pairs")
    model = model_folder(folder / "model", "bert", "pairs")
    export(str(model), folder / "files", ALL)
    return model, folder / "files"


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A model of vectors, its folder of files, and what was measured."""
    folder = tmp_path_factory.mktemp("vectors")
    model = model_folder(folder / "model", "bert", "vectors", layers=2)
    return model, folder / "files", export(str(model), folder / "files", ALL)


def torch_and_files(model: Path, files: Path):
    return load_source(str(model)), {n: open_file(files / f, 1) for n, f in FILES.items()}


def check_shapes(model: Path, files: Path, *, int8: float) -> None:
    """One text and five, of one token and of all that the model reads."""
    source, found = torch_and_files(model, files)
    for rows in (1, 5):
        for length in (1, 2, 33, source.longest):
            reader = source.reader
            words = reader.read(example_of(" ".join(make_text(20)[: rows * 5])))
            ids = (words.ids * 80)[:length]
            some = [type(words)(ids[: max(1, length - 7 * row)], [], [], []) for row in range(rows)]
            feed = feed_of(some, 3)
            real = feed["attention_mask"] > 0
            expected = source(feed)
            for name, file in found.items():
                apart = np.abs(expected - file(feed))
                apart = apart[real] if apart.ndim == 3 else apart
                limit = int8 if name == INT8 else 1e-4
                assert apart.max() <= limit * max(1, np.abs(expected).max()), (name, rows, length)


def test_a_classifier_of_pairs(pairs):
    model, files = pairs
    check_shapes(model, files, int8=0.1)
    texts = [("the old house", "a red garden"), ("river", "stone " * 200)]
    loaded = limbeck.load(str(files))
    assert isinstance(loaded, ExportedModel)
    assert loaded.labels == HEADS["pairs"].labels
    exact = ExportedModel(files, format=FLOAT32, threads=1)
    source = load_source(str(model))
    for given, row in zip(texts, exact.logits(texts), strict=True):
        reading = source.reader.read(example_of(given))
        assert max(reading.types) == 1
        assert row == pytest.approx(source(feed_of([reading], 3))[0], abs=1e-4)
    with pytest.raises(ExportError, match="use logits"):
        loaded.encode(["a text"])
    with pytest.raises(ExportError, match="no file of the format 'gguf'"):
        ExportedModel(files, format="gguf")


def test_vectors_are_pooled_mapped_and_scaled_inside(vectors):
    model, files, result = vectors
    check_shapes(model, files, int8=0.1)
    source = load_source(str(model))
    texts = make_text(6)
    expected = source.encoder.encode(texts, prompt=source.encoder.default_prompt)
    exact = ExportedModel(files, format=FUSED, threads=1)
    assert exact.encode(texts) == pytest.approx(expected, abs=1e-5)
    plain = source.encoder.encode(texts)
    assert exact.encode(texts, prompt="") == pytest.approx(plain, abs=1e-5)
    assert exact.encode(texts, prompt="query") == pytest.approx(expected, abs=1e-5)
    assert [one.difference.agreement for one in result.candidates] == [None] * 3
    cosines = [one.difference.cosine for one in result.candidates]
    assert cosines[0] > 0.999999 and 0.99 < cosines[2] < 0.999999


def test_files_have_no_metadata_and_tables_in_eight_bits(vectors):
    import onnx

    _, files, _ = vectors
    for name in FILES.values():
        graph = onnx.load(files / name)
        assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)
        assert not graph.metadata_props
    small = onnx.load(files / FILES[INT8]).graph.initializer
    large = [one.name for one in small if one.data_type == 1 and np.prod(one.dims) >= 24 * 48]
    assert large == []
    assert {file.name for file in files.iterdir()} >= {
        "export.json",
        "export.md",
        "export.html",
        "config.json",
        "tokenizer.json",
        *FILES.values(),
    }


@pytest.mark.parametrize(
    ("family", "task", "kind"),
    [("distilbert", "tags", "token"), ("modernbert", None, "masked"), ("llama", None, "causal")],
)
def test_other_kinds(tmp_path, family, task, kind):
    model = model_folder(tmp_path / "model", family, task, layers=1 + (family == "modernbert"))
    result = export(str(model), tmp_path / "files", ALL)
    assert result.kind == kind
    check_shapes(model, tmp_path / "files", int8=0.15)
    loaded = ExportedModel(tmp_path / "files", format=FLOAT32, threads=1)
    words = make_text(1)[0].split()[:5]
    [found] = loaded.logits([words if kind == "token" else " ".join(words)])
    assert found.shape == ((5, 2) if kind == "token" else (found.shape[0], found.shape[1]))
    assert np.isfinite(found).all()
    assert 0 <= result.candidates[2].difference.agreement <= 1


def test_a_decoder_that_classifies_is_read_as_its_tokenizer_reads(tmp_path):
    """Which puts nothing around a text, though it has tokens for a beginning and an end."""
    kind = blank_tokenizer("bytes", lowercase=False)
    tokenizer = learn_tokenizer(make_text(100), kind, vocab_size=300)
    tokenizer.pad_token = tokenizer.eos_token
    model = make_model("llama", vocabulary=len(tokenizer), layers=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    model = with_task_head(model, HEADS["labels"])
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    texts = [" ".join(text.split()[: 2 + n]) for n, text in enumerate(make_text(5))]
    with torch.inference_mode():
        each = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    expected = torch.stack(each).numpy()
    export(str(tmp_path / "model"), tmp_path / "files", replace(ALL, formats=(FLOAT32,)))
    loaded = ExportedModel(tmp_path / "files", format=FLOAT32, threads=1)
    assert loaded.logits(texts) == pytest.approx(expected, abs=1e-4)
    exported = AutoTokenizer.from_pretrained(tmp_path / "files")
    assert exported(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    rows = [example_of(text) for text in texts]
    side = task_side(str(tmp_path / "model"))
    found = answers_of(side, rows, HEADS["labels"].labels, max_length=80).logits
    assert found == pytest.approx(expected, abs=1e-4)
    said = json.loads((tmp_path / "files" / "config.json").read_text("utf-8"))
    assert said["use_cache"] is True  # as in the model's own


def test_the_command_scores_times_and_refuses(monkeypatch, capsys, tmp_path):
    """A file that keeps too little is named and not written."""
    model = model_folder(tmp_path / "model", "bert", "labels")
    task = answered_task(model, tmp_path)
    monkeypatch.setattr(exporting, "LENGTHS", (4,))

    def broken(file, *, reduced):
        graph = onnx_ir.load(file)
        for one in graph.graph.initializers.values():
            weights = one.const_value.numpy()
            if sorted(weights.shape) == [3, 24]:  # of the head
                one.const_value = onnx_ir.tensor(-weights)
        return graph

    monkeypatch.setattr(making, "int8_graph", broken)
    options = ["--task", task, "--threads", 1, "--formats", ",".join(FILES)]
    arguments = ["export", model, "-o", tmp_path / "files", *options]
    monkeypatch.setattr(sys, "argv", ["limbeck", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    out = " ".join(capsys.readouterr().out.split())
    assert not ended.value.code, out
    found = json.loads((tmp_path / "files" / "export.json").read_text("utf-8"))
    good, _, bad = found["candidates"]
    assert good["kept"] == 1 and good["scores"][0]["task"] == "labels"
    assert good["times"]["cold"] > 0 and good["times"]["rows"][0][:2] == [1, 4]
    assert good["difference"]["flips"] == {}
    assert bad["kept"] < 0.99 and bad["file"] is None and bad["verdict"].startswith("not written")
    assert sum(bad["difference"]["flips"].values()) > 0
    assert not (tmp_path / "files" / FILES[INT8]).exists()
    assert "onnx-int8 was not written: keeps" in out
    with pytest.raises(ExportError, match="no file of the format 'onnx-int8'"):
        ExportedModel(tmp_path / "files", format=INT8)


def test_nothing_is_left_of_a_folder_that_was_not_written(monkeypatch, tmp_path, vectors):
    model, files, _ = vectors
    graph = onnx_ir.load(files / FILES[FLOAT32])
    monkeypatch.setattr(making, "float32_graph", lambda source: graph)

    def full(*_, **_named):
        raise OSError("no room")

    monkeypatch.setattr(exporting, "save_tokenizer", full)
    only = ExportSettings(formats=(FLOAT32,), timed=False, threads=1)
    with pytest.raises(ExportError, match="no room"):
        export(str(model), tmp_path / "files", only)
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_are_infinitely_far(vectors):
    source, found = torch_and_files(*vectors[:2])
    readings = [source.reader.read(example_of("the old house"))]
    difference = difference_of(source, lambda feed: found[FLOAT32](feed) * np.nan, readings)
    assert difference.largest == np.inf


def test_the_example_without_limbeck_runs(vectors):
    model, files, _ = vectors
    names = run_example("onnxruntime", files)
    encoder = load_source(str(model)).encoder
    assert names["vectors"].shape == (2, 10)
    assert names["vectors"] == pytest.approx(encoder.encode(names["texts"]), abs=0.1)
