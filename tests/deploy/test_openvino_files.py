"""OpenVINO files of tiny models say what the models say in torch."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import make_text
from exported import model_folder, run_example

import limbeck
from limbeck.deploy import formats as of_formats
from limbeck.deploy.arrays import Feed, ModelFile
from limbeck.deploy.batches import example_of, feed_of
from limbeck.deploy.engines import open_file
from limbeck.deploy.export import export
from limbeck.deploy.exported_model import ExportedModel
from limbeck.deploy.formats import FORMATS, OPENVINO, OPENVINO_INT8, OPENVINO_INT8_WEIGHTS
from limbeck.deploy.making import Making
from limbeck.deploy.openvino_files.graphs import (
    int8_openvino_graph,
    write_openvino,
)
from limbeck.deploy.settings import ExportSettings
from limbeck.deploy.source import Source, load_source
from limbeck.errors import ExportError, MissingExtraError
from limbeck.models.openvino_rounding import products_of_activations
from limbeck.system.int8_range import int8_range

BOTH = ExportSettings(formats=(OPENVINO, OPENVINO_INT8), keep=0.0, timed=False, threads=1)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A model of vectors, its folder of files, and what was measured."""
    folder = tmp_path_factory.mktemp("vectors")
    model = model_folder(folder / "model", "bert", "vectors")
    return model, folder / "files", export(str(model), folder / "files", BOTH)


def furthest(source: Source, file: Path, beside: Path | None = None) -> float:
    """The largest difference to torch over one and five texts of one token to the longest.

    With another file beside, that to what it says of each text alone, without padding.
    """
    run, worst = open_file(file, 1), 0.0
    alone = open_file(beside, 1) if beside else None
    ids = source.reader.read(example_of(make_text(1)[0])).ids
    for rows in (1, 5):
        for length in (1, 2, 33, source.longest):
            feed = {"input_ids": np.resize(ids, (rows, length))}
            mask = np.ones((rows, length), np.int64)
            for row in range(rows):
                mask[row, max(1, length - 7 * row) :] = 0
            feed |= {"attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
            found = run(feed)
            expected = each_alone(alone, feed, found) if alone else source(feed)
            apart = np.abs(expected - found)
            apart = apart[mask > 0] if apart.ndim == 3 else apart
            worst = max(worst, float(apart.max() / max(1, np.abs(expected).max())))
    return worst


def each_alone(run: ModelFile, feed: Feed, like: np.ndarray) -> np.ndarray:
    """What a file says of each text alone; zeros where there is padding."""
    found = np.zeros_like(like)
    for row, mask in enumerate(feed["attention_mask"]):
        short = {name: one[row : row + 1, : mask.sum()] for name, one in feed.items()}
        [said] = run(short)
        found[row, : len(said)] = said
    return found


def check_files(model: Path, files: Path, int8: str = OPENVINO_INT8) -> None:
    source = load_source(str(model))
    assert furthest(source, files / FORMATS[OPENVINO].file) < 5e-3  # of weights in float16
    # How close 8 bits are depends on the texts; that a text is the same in a batch does not.
    small = files / FORMATS[int8].file
    assert furthest(source, small, beside=small) < 0.02


def test_vectors(vectors):
    model, files, result = vectors
    check_files(model, files)
    half, small = result.candidates
    assert half.difference.cosine > 0.99999 and small.difference.cosine > 0.99
    assert small.difference.alone < 1e-5  # ranges that stay, whatever else is in the batch
    assert half.exact_on == "any processor"
    loaded = limbeck.load(str(files))
    texts = make_text(6)
    assert loaded.encode(texts) == pytest.approx(
        load_source(str(model)).encoder.encode(texts), abs=0.1
    )


@pytest.mark.parametrize(
    ("family", "task", "kind"),
    [("distilbert", "tags", "token"), ("llama", None, "causal"), ("bert", "pairs", "sequence")],
)
def test_other_kinds(tmp_path, family, task, kind):
    model = model_folder(tmp_path / "model", family, task)
    int8 = OPENVINO_INT8_WEIGHTS if kind == "causal" else OPENVINO_INT8
    both = replace(BOTH, formats=(OPENVINO, int8))
    result = export(str(model), tmp_path / "files", both)
    assert result.kind == kind
    check_files(model, tmp_path / "files", int8)
    half, small = result.candidates
    assert half.difference.agreement > 0.98 and small.difference.agreement > 0.9
    anywhere = kind == "causal" or int8_range().reduced  # weights in 8 bits alone; or 7 of them
    assert (small.exact_on == "any processor") == anywhere
    loaded = ExportedModel(tmp_path / "files", format=OPENVINO, threads=1)
    words = make_text(1)[0].split()[:5]
    given = {"token": words, "sequence": (" ".join(words), "river")}.get(kind, " ".join(words))
    [found] = loaded.logits([given])
    row = example_of(given, of_words=kind == "token")
    reading = load_source(str(model)).reader.read(row)
    expected = load_source(str(model))(feed_of([reading], 3))[0]
    if kind == "token":
        expected = expected[np.array(reading.begins) >= 0]
    assert found == pytest.approx(expected, abs=2e-2)


def test_tables_and_weights_are_rounded_and_nothing_else_is_stored(vectors):
    _, files, _ = vectors
    graphs = {name: (files / FORMATS[name].file).read_text("utf-8") for name in BOTH.formats}
    for graph in graphs.values():
        [notes] = re.findall(r"\n\t<rt_info>(.*?)</rt_info>", graph, re.DOTALL)
        assert "conversion_parameters" not in notes and "nncf" not in notes
        assert not re.search(r"site-packages|\.py\b|/home/|/tmp/", graph)
    assert 'element_type="f16"' in graphs[OPENVINO]
    floats = re.findall(r'<data element_type="f32" [^>]*size="(\d+)"', graphs[OPENVINO_INT8])
    assert max(map(int, floats)) < 4 * 24 * 24


def test_seven_bits_where_sums_would_saturate(vectors, tmp_path):
    """Weights of matrices stay within half of the range, and products of activations are left."""
    model, _, _ = vectors
    source = load_source(str(model))
    readings = [source.reader.read(example_of(text)) for text in make_text(8)]
    making = Making(source, tmp_path, readings, [])
    largest = {}
    for reduced in (False, True):
        graph = int8_openvino_graph(making.openvino, making.feeds(), reduced=reduced)
        stored = [one for one in graph.get_ordered_ops() if one.get_type_name() == "Constant"]
        weights = [
            one.data for one in stored if one.data.dtype == np.int8 and one.data.shape == (24, 24)
        ]
        assert len(weights) >= 4
        largest[reduced] = max(int(np.abs(one.astype(int)).max()) for one in weights)
        write_openvino(graph, tmp_path / f"{reduced}.xml", half=False)
    assert largest[False] == 127 and largest[True] <= 64


def test_products_of_two_activations():
    import openvino
    from openvino import opset14

    one, other = (opset14.parameter([-1, 4], np.float32) for _ in range(2))
    weights = opset14.convert(opset14.constant(np.ones((4, 4), np.float16)), np.float32)
    queries = opset14.matmul(one, weights, False, True, name="queries")
    scores = opset14.matmul(queries, other, False, True, name="scores")
    graph = openvino.Model([scores], [one, other])
    assert products_of_activations(graph) == ["scores"]


_ALONE = """
import json, os, socket, sys
from pathlib import Path
tried = []
socket.socket.connect = lambda self, place: tried.append(str(place))
socket.getaddrinfo = lambda *given, **_: tried.append(str(given)) or []
from limbeck.deploy.engines import open_file
import numpy as np
run = open_file(Path(sys.argv[1]), 1)
run(dict.fromkeys(run.inputs, np.ones((1, 3), np.int64)))
loaded = "torch" in sys.modules
from limbeck.models.openvino_package import without_telemetry
import openvino
from openvino.tools.ovc.telemetry_utils import init_ovc_telemetry
with without_telemetry():
    import nncf
    nncf.compress_weights(openvino.Core().read_model(sys.argv[1]))
    counter = init_ovc_telemetry()
    counter.send_event("ovc", "version", "x")
    made = os.listdir(os.environ["HOME"])
    counter.send_event("ovc", "version", "x", force_send=True)
    counter.force_shutdown(1.0)
print(json.dumps([loaded, tried, made]))
"""


def test_no_torch_to_run_and_no_telemetry_to_make(vectors, tmp_path):
    _, files, _ = vectors
    file = files / FORMATS[OPENVINO].file
    home = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    home["HOME"] = str(tmp_path)
    command = [sys.executable, "-c", _ALONE, str(file)]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [False, [], []]


def test_what_cannot_be_opened(vectors, tmp_path, monkeypatch):
    _, files, _ = vectors
    lonely = tmp_path / "model.xml"
    lonely.write_bytes((files / FORMATS[OPENVINO].file).read_bytes())
    with pytest.raises(ExportError, match="OpenVINO cannot load model.xml: .*its .bin must stand"):
        open_file(lonely)
    monkeypatch.setattr(
        of_formats, "find_spec", lambda name: None if name == "openvino" else find_spec(name)
    )
    with pytest.raises(
        MissingExtraError, match=r"openvino; run: pip install 'limbeck\[openvino\]'"
    ):
        open_file(files / FORMATS[OPENVINO].file)
    with pytest.raises(MissingExtraError, match="the format openvino-int8 needs openvino"):
        ExportSettings(formats=(OPENVINO_INT8,)).check(tmp_path / "new")


def test_the_example_with_openvino_runs(vectors):
    model, files, _ = vectors
    names = run_example("openvino", files)
    encoder = load_source(str(model)).encoder
    assert names["vectors"].shape == (2, 10)
    assert names["vectors"] == pytest.approx(encoder.encode(names["texts"], prompt=""), abs=0.1)
