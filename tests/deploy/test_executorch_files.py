"""ExecuTorch files of tiny models say what the models say in torch."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_text
from exported import model_folder, run_example

import limbeck
from limbeck.deploy.batches import example_of, feed_of
from limbeck.deploy.engines import open_file
from limbeck.deploy.executorch_files import graphs
from limbeck.deploy.executorch_files.graphs import most_of
from limbeck.deploy.export import export
from limbeck.deploy.exported_model import ExportedModel
from limbeck.deploy.formats import EXECUTORCH, EXECUTORCH_INT8, FORMATS
from limbeck.deploy.settings import ExportSettings
from limbeck.deploy.source import load_source
from limbeck.errors import ExportError

BOTH = ExportSettings(formats=(EXECUTORCH, EXECUTORCH_INT8), keep=0.0, timed=False, threads=1)
LARGE, SMALL = FORMATS[EXECUTORCH].file, FORMATS[EXECUTORCH_INT8].file


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A model of vectors, its folder of files, and what was measured."""
    folder = tmp_path_factory.mktemp("vectors")
    model = model_folder(folder / "model", "bert", "vectors")
    return model, folder / "files", export(str(model), folder / "files", BOTH)


def feeds(model: Path, rows: int, length: int) -> dict[str, np.ndarray]:
    """So many texts, the first as long as said and each next one shorter."""
    source = load_source(str(model))
    ids = source.reader.read(example_of(make_text(1)[0])).ids
    mask = np.ones((rows, length), np.int64)
    for row in range(rows):
        mask[row, max(1, length - 7 * row) :] = 0
    found = {"input_ids": np.resize(ids, (rows, length)), "attention_mask": mask}
    return {**found, "token_type_ids": np.zeros_like(mask)}


def check_float32(model: Path, files: Path) -> None:
    """One text and five, of one token and of all that the model reads."""
    source, run = load_source(str(model)), open_file(files / LARGE, 1)
    for rows in (1, 5):
        for length in (1, 2, 33, source.longest):
            feed = feeds(model, rows, length)
            expected, found = source(feed), run(feed)
            apart = np.abs(expected - found)
            apart = apart[feed["attention_mask"] > 0] if apart.ndim == 3 else apart
            assert apart.max() <= 1e-4 * max(1, np.abs(expected).max()), (rows, length)


def test_vectors(vectors):
    model, files, result = vectors
    check_float32(model, files)
    large, small = result.candidates
    assert large.difference.cosine > 0.999999 and 0.99 < small.difference.cosine < 0.999999
    assert small.difference.alone < 1e-5  # activations are rounded token by token
    assert large.exact_on == "any processor"
    texts = make_text(6)
    source = load_source(str(model))
    expected = source.encoder.encode(texts, prompt=source.encoder.default_prompt)
    assert limbeck.load(str(files)).encode(texts) == pytest.approx(expected, abs=0.1)
    exact = ExportedModel(files, format=EXECUTORCH, threads=1)
    assert exact.encode(texts) == pytest.approx(expected, abs=1e-5)
    assert source.module.model.config._attn_implementation == "sdpa"


def test_tables_and_weights_are_rounded_and_no_metadata_is_stored(vectors):
    model, files, _ = vectors
    weights = sum(one.nbytes for one in load_source(str(model)).module.parameters())
    large, small = ((files / name).read_bytes() for name in (LARGE, SMALL))
    assert len(large) - len(small) > 0.3 * weights  # what else a file has does not get smaller
    for content in (large, small):
        for said in (b".py", b"site-packages", b"/tmp/", b"nn_module", b"word_embeddings"):
            assert said not in content


@pytest.mark.parametrize(
    ("family", "task", "kind", "formats"),
    [
        ("distilbert", "tags", "token", (EXECUTORCH, EXECUTORCH_INT8)),
        ("llama", None, "causal", (EXECUTORCH,)),
    ],
)
def test_other_kinds(monkeypatch, tmp_path, family, task, kind, formats):
    """Weights of 8 bits as for a processor without VNNI."""
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    model = model_folder(tmp_path / "model", family, task)
    result = export(str(model), tmp_path / "files", replace(BOTH, formats=formats))
    assert result.kind == kind
    check_float32(model, tmp_path / "files")
    assert [one.difference.agreement > 0.9 for one in result.candidates] == [True] * len(formats)
    assert {one.exact_on for one in result.candidates} == {"any processor"}
    loaded = ExportedModel(tmp_path / "files", format=EXECUTORCH, threads=1)
    words = make_text(1)[0].split()[:5]
    given = words if kind == "token" else " ".join(words)
    [found] = loaded.logits([given])
    row = example_of(given, of_words=kind == "token")
    reading = load_source(str(model)).reader.read(row)
    expected = load_source(str(model))(feed_of([reading], 3))[0]
    if kind == "token":
        expected = expected[np.array(reading.begins) >= 0]
    assert found == pytest.approx(expected, abs=1e-4)


def test_more_texts_than_it_has_memory_for_and_longer_ones(vectors):
    model, files, _ = vectors
    run = open_file(files / LARGE, 1)
    assert run.most == most_of(load_source(str(model)))
    rows, tokens = run.most
    feed = feeds(model, rows + 3, 9)
    alone = np.concatenate([run({n: a[i : i + 1] for n, a in feed.items()}) for i in range(35)])
    assert (rows, run(feed).shape[0]) == (32, 35)
    assert run(feed) == pytest.approx(alone, abs=1e-5)
    with pytest.raises(ExportError, match=f"a text has {tokens + 1} tokens, and model.pte has mem"):
        run(feeds(model, 1, tokens + 1))


def test_the_longest_text_sets_the_memory(vectors, monkeypatch):
    model, _, _ = vectors
    source = load_source(str(model))
    for limit, rows in ((2**20, 10), (2**18, 2)):
        monkeypatch.setattr(graphs, "_FOR_TEXTS", limit)
        assert most_of(source) == (rows, source.longest)
    monkeypatch.setattr(graphs, "_FOR_ONE", 2**16)
    with pytest.raises(ExportError, match="reads 80 tokens.*a smaller model_max_length"):
        most_of(source)


_ALONE = """
import sys
from pathlib import Path
import numpy as np
from limbeck.deploy.engines import open_file
run = open_file(Path(sys.argv[1]), 1)
run(dict.fromkeys(run.inputs, np.ones((1, 3), np.int64)))
made_with = ("executorch.exir", "torchao", "transformers")
print([name for name in made_with if name in sys.modules])
"""


def test_a_file_runs_without_what_it_was_made_with_and_prints_nothing(vectors):
    _, files, _ = vectors
    command = [sys.executable, "-c", _ALONE, str(files / SMALL)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_binary_module_says_what_the_public_runtime_does(vectors):
    model, files, _ = vectors
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(files / SMALL).load_method("forward")
    feed = feeds(model, 2, 9)
    run = open_file(files / SMALL, 1)
    given = [torch.from_numpy(feed[name]) for name in run.inputs]
    assert method.execute(given)[0].numpy() == pytest.approx(run(feed), abs=1e-6)


def test_what_cannot_be_opened(tmp_path):
    (tmp_path / "model.pte").write_bytes(b"x" * 4096)
    with pytest.raises(ExportError, match="ExecuTorch cannot load model.pte: .*; export it again"):
        open_file(tmp_path / "model.pte")


def test_an_operator_that_it_has_not(vectors, tmp_path, monkeypatch):
    import torch

    from limbeck.deploy import source as of_source

    real = of_source.Exported.forward

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        found = real(self, input_ids, attention_mask, token_type_ids)
        return {name: torch.special.airy_ai(value) for name, value in found.items()}

    monkeypatch.setattr(of_source.Exported, "forward", forward)
    with pytest.raises(ExportError, match="cannot be written for ExecuTorch: .*airy_ai"):
        export(str(vectors[0]), tmp_path / "files", BOTH)
    assert list(tmp_path.iterdir()) == []


def test_its_cost_is_measured(vectors, monkeypatch, capsys):
    from limbeck.cli.main import main

    arguments = ["evaluate", str(vectors[1]), "--cost", "--json", "--format", EXECUTORCH_INT8]
    monkeypatch.setattr(sys, "argv", ["limbeck", *arguments, "--threads", "1"])
    monkeypatch.setattr("limbeck.deploy.timing.LENGTHS", (4,))
    monkeypatch.setattr("limbeck.cli.exported.SECONDS_EACH", 0.01)
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert not ended.value.code, out
    cost = json.loads(out.splitlines()[-1])["cost"]
    assert cost["engine"] == "ExecuTorch" and cost["times"]["cold"] > 0


def test_the_example_with_executorch_runs(vectors):
    model, files, _ = vectors
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = run_example("executorch", files)
    encoder = load_source(str(model)).encoder
    assert names["vectors"].shape == (2, 10)
    expected = encoder.encode(names["texts"], prompt="")
    assert names["vectors"].numpy() == pytest.approx(expected, abs=0.1)
