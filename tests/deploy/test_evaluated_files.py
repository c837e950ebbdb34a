"""`limbeck evaluate` on folders of `limbeck export`: files score what their models score."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
from conftest import HEADS, make_text
from exported import answered_task, model_folder

from limbeck.cli import exported
from limbeck.cli.main import main
from limbeck.deploy import exported_model
from limbeck.deploy.export import export
from limbeck.deploy.formats import FLOAT32, OPENVINO
from limbeck.deploy.settings import ExportSettings

BOTH = ExportSettings(formats=(FLOAT32, OPENVINO), keep=0.0, timed=False, threads=1)
TEXTS = make_text(20, seed=4)


def run(monkeypatch, capsys, *arguments) -> tuple[dict, str]:
    """The results of `limbeck evaluate` as JSON has them, or nothing, and all that it said."""
    command = ["limbeck", "evaluate", *map(str, arguments), "--json"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    found = {} if ended.value.code else json.loads(said.out.splitlines()[-1])
    return found, " ".join((said.out + said.err).split())


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier, its folder of files, and a task."""
    folder = tmp_path_factory.mktemp("classifier")
    model = model_folder(folder / "model", "distilbert", "labels")
    export(str(model), folder / "files", BOTH)
    return model, folder / "files", answered_task(model, folder)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A model of vectors, its folder of files, and pairs, queries and documents."""
    folder = tmp_path_factory.mktemp("vectors")
    model = model_folder(folder / "model", "bert", "vectors")
    export(str(model), folder / "files", BOTH)
    pairs = zip(TEXTS[:10], TEXTS[10:], strict=True)
    contents = {
        "own.dev": [{"text": a, "text_pair": b, "label": n % 4} for n, (a, b) in enumerate(pairs)],
        "own.corpus": [{"id": n, "text": text} for n, text in enumerate(TEXTS)],
        "own.queries": [{"id": n, "text": TEXTS[n], "relevant": [n]} for n in range(8)],
    }
    for name, rows in contents.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return model, folder / "files", folder / "own"


@pytest.mark.parametrize("form", [FLOAT32, OPENVINO])
def test_a_task_with_the_own_head(monkeypatch, capsys, classifier, form):
    model, files, task = classifier
    options = ["--task", task, "--own-head"]
    whole, _ = run(monkeypatch, capsys, model, *options)
    found, said = run(monkeypatch, capsys, files, *options, "--threads", 1, "--format", form)
    assert found["labels"]["mean"] == whole["labels"]["mean"] == 1
    assert found["labels"]["test_rows"] == 40
    assert "labels" in said


def test_tags_and_truncated_rows(monkeypatch, capsys, tmp_path):
    model = model_folder(tmp_path / "model", "distilbert", "tags")
    export(str(model), tmp_path / "files", replace(BOTH, formats=(FLOAT32,)))
    rows = [
        {"tokens": words, "tags": [HEADS["tags"].labels[len(word) % 2] for word in words]}
        for words in (text.split() for text in TEXTS)
    ]
    for split in ("train", "dev"):
        lines = "\n".join(json.dumps(row) for row in rows)
        (tmp_path / f"tags.{split}.jsonl").write_text(lines, encoding="utf-8")
    for length in (6, 60):
        options = ["--task", tmp_path / "tags", "--own-head", "--max-length", length]
        whole, _ = run(monkeypatch, capsys, model, *options)
        found, _ = run(monkeypatch, capsys, tmp_path / "files", *options)
        assert found["tags"]["seeds"][0]["metrics"] == whole["tags"]["seeds"][0]["metrics"]


def test_a_file_reads_what_it_was_measured_on_unless_less_is_named(monkeypatch, capsys, classifier):
    _, files, task = classifier
    limits, real = [], exported_model.score_of_file

    def noted(forward, reader, head, task):
        limits.append(reader.limit)
        return real(forward, reader, head, task)

    monkeypatch.setattr(exported_model, "score_of_file", noted)
    facts = json.loads((files / "export.json").read_text("utf-8"))
    facts["reading"]["max_length"] = 200  # more than the command's default
    shutil.copytree(files, files.with_name("longer"))
    (files.with_name("longer") / "export.json").write_text(json.dumps(facts), encoding="utf-8")
    for options in ([], ["--max-length", 64], ["--max-length", 250]):
        run(
            monkeypatch,
            capsys,
            *(files.with_name("longer"), "--task", task, "--own-head", *options),
        )
    assert limits == [200, 64, 200]


def test_results_say_which_file_was_scored(monkeypatch, capsys, tmp_path, classifier):
    """Those of one file stood where those of another had been."""
    _, files, task = classifier
    options = [files, "--task", task, "--own-head", "-o", tmp_path / "results"]
    found, said = run(monkeypatch, capsys, *options, "--format", OPENVINO)
    kept = json.loads((tmp_path / "results" / "evaluation.json").read_text("utf-8"))
    assert kept["format"] == found["format"] == OPENVINO
    assert f"files, {OPENVINO} task metric" in said
    _, said = run(monkeypatch, capsys, *options, "--format", FLOAT32)
    assert f"the results of the {OPENVINO} file of" in said
    assert f"and that of {FLOAT32} is scored; give another folder" in said
    assert json.loads((tmp_path / "results" / "evaluation.json").read_text("utf-8")) == kept


def test_what_was_decided_of_rows_is_said(monkeypatch, capsys, tmp_path, classifier):
    """A tenth of the rows was held out, without a word."""
    model, files, task = classifier
    rows = task.with_name(f"{task.name}.train.jsonl")
    _, said = run(monkeypatch, capsys, files, "--task", rows, "--own-head", "--max-length", 4)
    assert "names no rows to be scored, so" in said
    assert "rows have more than 4 tokens" in said
    settings = replace(BOTH, formats=(FLOAT32,), tasks=(str(rows),))
    [note] = export(str(model), tmp_path / "files", settings).notes
    assert "names no rows to be scored, so" in note
    assert note in json.loads((tmp_path / "files" / "export.json").read_text("utf-8"))["notes"]


def test_a_home_folder_is_found(monkeypatch, classifier):
    _, files, _ = classifier
    monkeypatch.setenv("HOME", str(files.parent))
    name = f"~/{files.name}"
    assert exported_model.is_exported(name)
    assert exported_model.ExportedModel(name, format=FLOAT32, threads=1).logits(["a"]).shape[0] == 1


@pytest.mark.parametrize("form", [FLOAT32, OPENVINO])
def test_vectors_beside_those_of_torch(monkeypatch, capsys, vectors, form):
    model, files, own = vectors
    options = ["--similarity", own, "--retrieval", own, "--query-prompt", "query"]
    whole, _ = run(monkeypatch, capsys, model, *options, "--precision", "float32")
    found, said = run(monkeypatch, capsys, files, *options, "--format", form)
    for one, other in zip(found["embeddings"], whole["embeddings"], strict=True):
        assert one["mean"] == pytest.approx(other["mean"], abs=0.02)
        assert one["prompts"] == other["prompts"]
    assert "vectors of 10 coordinates" in said
    # Queries by the model in torch, documents by the file.
    mixed, said = run(monkeypatch, capsys, model, *options[2:], "--documents", files)
    assert mixed["embeddings"][0]["documents"] == str(files)


def test_what_a_file_costs(monkeypatch, capsys, classifier):
    _, files, _ = classifier
    for other in ("openvino_model.onnx", "openvino_model.xml.old"):  # of no file's
        (files / other).write_bytes(bytes(10**6))
    monkeypatch.setattr(exported, "SECONDS_EACH", 0.0)
    options = ["--cost", "--format", OPENVINO, "--threads", 1]
    found, said = run(monkeypatch, capsys, files, *options)
    assert found, said
    cost = found["cost"]
    size = sum(
        (files / name).stat().st_size for name in ("openvino_model.xml", "openvino_model.bin")
    )
    assert cost["megabytes"] == pytest.approx(size / 1e6)
    assert (cost["format"], cost["engine"], cost["threads"]) == (OPENVINO, "OpenVINO", 1)
    assert cost["peak_memory_bytes"] > size and cost["times"]["cold"] > 0
    assert {tuple(row[:2]) for row in cost["times"]["rows"]} >= {(1, 16), (32, 16), (1, 80)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--task", "TASK"], "a file cannot be fine-tuned; score it with the head that it has"),
        (["--task", "TASK", "--teacher", "x"], "--teacher needs models that generate"),
        (["--similarity", "x", "--sentence-pooling", "cls"], "leave --sentence-pooling out"),
        (["--similarity", "x", "--truncate-dim", "4"], "leave --truncate-dim out"),
        (["--cost", "--precision", "bfloat16"], "files have the precision of their formats"),
        ([], "nothing is named that its file is scored on"),
        (["--cost", "--threads", "0"], "--threads is 0; give a whole number of 1 or more"),
        (["--task", "TASK", "--own-head", "--threads", "-2"], "--threads is -2; give"),
        (["--cost", "--format", "onnx-int8"], "no file of the format 'onnx-int8'; it has onnx"),
    ],
)
def test_what_a_file_cannot_do(monkeypatch, capsys, classifier, options, said):
    _, files, task = classifier
    given = [task if option == "TASK" else option for option in options]
    found, error = run(monkeypatch, capsys, files, *given)
    assert found == {} and said in error


def test_what_another_kind_of_model_cannot_do(monkeypatch, capsys, classifier, vectors, tmp_path):
    model, files, task = classifier
    _, error = run(monkeypatch, capsys, model, "--cost", "--format", FLOAT32)
    assert "--format names a file of a folder of `limbeck export`" in error
    _, error = run(monkeypatch, capsys, vectors[1], "--task", task, "--own-head")
    assert "has no head of a classifier, tagger or scoring model (its kind is vectors)" in error
    similar = tmp_path / "own.dev.jsonl"
    shutil.copy(f"{vectors[2]}.dev.jsonl", similar)
    _, error = run(monkeypatch, capsys, files, "--similarity", tmp_path / "own")
    assert "makes no vectors of texts (its kind is sequence)" in error
