"""What cannot be exported is refused in words, before anything is written."""

import errno
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import HEADS, make_model, make_tokenizer, with_task_head
from transformers import AutoTokenizer

import limbeck
from limbeck.cli.main import main
from limbeck.deploy import export as exporting
from limbeck.deploy import formats as of_formats
from limbeck.deploy import source as of_source
from limbeck.deploy.engines import open_file
from limbeck.deploy.export import export
from limbeck.deploy.exported_model import ExportedModel, is_exported
from limbeck.deploy.settings import ExportSettings
from limbeck.errors import ExportError, MissingExtraError, ModelError
from limbeck.models.load import load_config

PLAIN = ExportSettings(formats=("onnx", "onnx-fused", "onnx-int8"), timed=False)


@pytest.fixture
def folder(tmp_path):
    tokenizer = make_tokenizer()
    make_model("bert", vocabulary=len(tokenizer), layers=1).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"formats": ("onnx-int4",)}, "'onnx-int4' is not known; did you mean 'onnx-int8'"),
        ({"formats": ()}, "no format is given"),
        ({"keep": 1.5}, "--keep is 1.5"),
        ({"keep": 1.0000001}, "--keep is 1.0000001"),
        ({"keep": -0.1}, "a number from 0 to 1"),
        ({"threads": 0}, "--threads is 0"),
    ],
)
def test_settings(tmp_path, fields, said):
    with pytest.raises(ExportError, match=said):
        ExportSettings(**fields).check(tmp_path / "new")


def test_a_folder_that_holds_something(tmp_path):
    (tmp_path / "there").write_text("x")
    with pytest.raises(ExportError, match="is not empty, and nothing is replaced"):
        PLAIN.check(tmp_path)
    with pytest.raises(ExportError, match="is a file"):
        PLAIN.check(tmp_path / "there")


def test_a_link_leads_to_the_folder_and_a_mount_point_stays(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    PLAIN.check(tmp_path / "link")
    real = Path.is_mount
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "real" or real(self))
    with pytest.raises(ExportError, match="real' is a mount point, .*; name a folder inside it"):
        PLAIN.check(tmp_path / "link")


def test_a_place_where_no_folder_can_be_made(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text("{}")
    below = tmp_path / "config.json" / "new" / "files"
    with pytest.raises(ExportError, match=r"config\.json' is no folder; name another place"):
        PLAIN.check(below)
    monkeypatch.setattr(sys, "argv", ["limbeck", "export", "no-such-model", "-o", str(below)])
    with pytest.raises(SystemExit):
        main()
    assert "is no folder" in " ".join(capsys.readouterr().err.split())
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.F_OK and real(path, mode))
    with pytest.raises(ExportError, match="must not be written to; name another place"):
        PLAIN.check(tmp_path / "new" / "files")


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "make room"), (errno.EACCES, "to another folder")]
)
def test_room_is_only_needed_where_the_disk_is_full(tmp_path, monkeypatch, number, said):
    def refused(folder, *, replaces):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(exporting, "whole_folder", refused)
    with pytest.raises(ExportError, match=f"could not be written to .*; .*{said}"):
        exporting._write(None, None, tmp_path, tmp_path / "files")


def test_a_format_that_is_named_twice_is_made_once():
    names = ("onnx-int8", "onnx", "onnx-int8")
    assert of_formats.formats_of("body", names) == (["onnx-int8", "onnx"], {})


def test_a_missing_extra_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(
        of_formats, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name)
    )
    with pytest.raises(MissingExtraError, match=r"onnxruntime; run: pip install 'limbeck\[onnx\]'"):
        PLAIN.check(tmp_path / "new")


def test_the_extra_of_executorch_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        of_formats, "find_spec", lambda name: None if name == "executorch" else find_spec(name)
    )
    said = r"executorch; run: pip install 'limbeck\[executorch\]'"
    with pytest.raises(MissingExtraError, match=f"the format executorch-int8 needs {said}"):
        ExportSettings(formats=("executorch-int8",)).check(tmp_path / "new")
    (tmp_path / "model.pte").write_bytes(b"x")
    with pytest.raises(MissingExtraError, match=f"running an ExecuTorch file needs {said}"):
        open_file(tmp_path / "model.pte")


def test_files_are_no_model(folder, tmp_path):
    """Those of OpenVINO end in .bin, as weights do."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "config.json").write_bytes((folder / "config.json").read_bytes())
    for name in ("export.json", "openvino_model.xml", "openvino_model.bin"):
        (files / name).write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"is a folder of `limbeck export` \(export.json\), whose"):
        load_config(str(files))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "it is no JSON: Expecting property name"),
        (b"\xff", "it is no JSON: 'utf-8' codec"),
        (b"[]", "it has no limbeck_export: 1"),
        (b'{"limbeck_export": 2}', "it has no limbeck_export: 1"),
    ],
)
def test_a_broken_report_is_named(folder, content, why):
    (folder / "export.json").write_bytes(content)
    assert not is_exported(str(folder))  # it has weights, so the report is of something else
    (folder / "model.safetensors").unlink()
    for call in (limbeck.load, ExportedModel):
        with pytest.raises(ExportError, match=f"export.json is not what .* writes .{why}"):
            call(str(folder))


def test_tokens_without_an_embedding(folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = load_config(str(folder)).vocab_size
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(folder)
    said = f"has {rows} embeddings, and its tokenizer {rows + 2} tokens with ids up to {rows + 1};"
    with pytest.raises(ModelError, match=said):
        export(str(folder), tmp_path / "files", PLAIN)


@pytest.mark.parametrize(
    ("of_config", "of_tokenizer", "said"),
    [
        (None, "[PAD]", "the pad_token_id None, its tokenizer 3; set pad_token_id to 3 in its con"),
        (2, "[PAD]", "the pad_token_id 2, its tokenizer 3; set pad_token_id to 3 in its config"),
        (2, None, r"its tokenizer None; set pad_token to '\[SEP\]' in its tokenizer_config.json"),
        (
            -1,
            None,
            "the pad_token_id -1, its tokenizer None; set pad_token in its tokenizer_config",
        ),
        (None, None, "set pad_token in its tokenizer_config.json, and pad_token_id in its config"),
    ],
)
def test_a_decoder_that_classifies_must_know_the_padding(tmp_path, of_config, of_tokenizer, said):
    tokenizer = make_tokenizer()
    model = make_model("gpt2", vocabulary=len(tokenizer), layers=1)
    model.config.pad_token_id, tokenizer.pad_token = of_config, of_tokenizer
    with_task_head(model, HEADS["labels"]).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match=said):
        export(str(tmp_path / "model"), tmp_path / "files", PLAIN)


def test_remote_code_and_weights_that_are_rounded(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    remote = folder / "config.json"
    remote.write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}), "utf-8")
    with pytest.raises(ModelError, match="needs remote code"):
        export(str(folder), tmp_path / "files", PLAIN)
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(ExportError, match="is a GGUF file, whose weights are rounded already"):
        export(str(gguf), tmp_path / "files", PLAIN)
    assert not (tmp_path / "files").exists()


def test_tasks_that_the_model_has_no_head_for(folder, tmp_path):
    with pytest.raises(ExportError, match="--task needs a model with a head of its own"):
        export(str(folder), tmp_path / "files", ExportSettings(tasks=("x/y",)))
    with pytest.raises(ExportError, match="--similarity needs a folder of sentence-transformers"):
        export(str(folder), tmp_path / "files", ExportSettings(similarity=("x/y",)))


@pytest.mark.parametrize(
    "named",
    [
        {"tasks": ("a/own", "b/own")},
        {"similarity": ("own", "own")},
        {"tasks": ("{path: own.csv}",), "similarity": ("x/own",)},
    ],
)
def test_two_tasks_of_one_name(tmp_path, named):
    """The report had two columns of one name, and the card two scores."""
    with pytest.raises(ExportError, match="two tasks are called 'own', .*task_name: ANOTHER"):
        export("no-such-model", tmp_path / "files", ExportSettings(**named))


@pytest.mark.parametrize(
    ("limit", "said"), [(2, "reads 2 tokens of a text, of which 2"), (3, None)]
)
def test_a_model_that_reads_nothing_of_a_text(folder, limit, said):
    """Every text had the same answer, and the file kept all of it."""
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**settings, "model_max_length": limit}), "utf-8")
    if said is None:
        assert of_source.load_source(str(folder)).reader.limit == limit
        return
    with pytest.raises(
        ModelError, match=f"{said} are special tokens; set model_max_length .* to 3"
    ):
        of_source.load_source(str(folder))


def test_an_operator_that_onnx_has_not(folder, tmp_path, monkeypatch):
    real = of_source.Exported.forward

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        found = real(self, input_ids, attention_mask, token_type_ids)
        return {name: torch.special.airy_ai(value) for name, value in found.items()}

    monkeypatch.setattr(of_source.Exported, "forward", forward)
    with pytest.raises(ExportError, match=r"nothing for the operator aten.special_airy_ai"):
        export(str(folder), tmp_path / "files", PLAIN)


def test_a_cache_of_a_decoder_is_no_format(monkeypatch, capsys, tmp_path):
    arguments = ["export", "x", "-o", str(tmp_path / "y"), "--formats", "onnx-with-past"]
    monkeypatch.setattr(sys, "argv", ["limbeck", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "without a cache" in " ".join(capsys.readouterr().err.split())
