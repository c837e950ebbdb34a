"""`limbeck push`, against a hub that stands in for HfApi with its own signatures."""

import inspect
import json
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, RepoUrl
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import filter_repo_objects

from limbeck.cli.main import main
from limbeck.run import push as push_module

CARD = "---\nlicense: {}\n---\n# A student\n"


def run(monkeypatch, capsys, *words) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["limbeck", "push", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), " ".join((said.out + said.err).split())


@pytest.fixture
def student(tmp_path) -> Path:
    folder = tmp_path / "run" / "student"
    (folder / ".cache").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "a.part", ".cache/x"):
        (folder / name).write_text("{}", encoding="utf-8")
    (folder / "README.md").write_text(CARD.format("apache-2.0"), encoding="utf-8")
    return folder


@pytest.fixture
def hub(monkeypatch):
    """The calls that the hub gets; each must suit the signature of HfApi."""
    calls = []

    class Hub:
        def __init__(self, *arguments, **options):
            inspect.signature(HfApi).bind(*arguments, **options)
            calls.append(("token", options["token"]))

        def create_repo(self, *arguments, **options):
            inspect.signature(HfApi.create_repo).bind(self, *arguments, **options)
            calls.append(("create", arguments, options))
            return RepoUrl("https://huggingface.co/me/small")

        def upload_folder(self, **options):
            inspect.signature(HfApi.upload_folder).bind(self, **options)
            calls.append(("upload", options))

    monkeypatch.setattr(push_module, "HfApi", Hub)
    monkeypatch.setattr(push_module, "get_token", lambda: "hf_secret")
    monkeypatch.setattr(push_module.constants, "HF_HUB_OFFLINE", False)
    return calls


def test_a_run_is_sent_in_private(monkeypatch, capsys, student, hub):
    code, said = run(monkeypatch, capsys, student.parent, "me/small")
    assert code == 0 and "https://huggingface.co/me/small" in said and "hf_secret" not in said
    token, (_, place, options), (_, upload) = hub
    assert token == ("token", "hf_secret") and place == ("me/small",)
    assert options == {"private": True, "repo_type": "model", "exist_ok": True}
    assert upload["folder_path"] == student and upload["repo_id"] == "me/small"
    assert upload["allow_patterns"] == ["README.md", "config.json", "model.safetensors"]
    code, _ = run(monkeypatch, capsys, student, "me/small", "--public")
    assert code == 0 and hub[4][2]["private"] is False


def test_names_with_brackets_are_sent(monkeypatch, capsys, student, hub):
    """The hub's library takes patterns, in which [1] is the letter 1."""
    (student / "notes [1].md").write_text("x", encoding="utf-8")
    (student / "part").mkdir()
    (student / "part" / "a*b?.json").write_text("x", encoding="utf-8")
    code, _ = run(monkeypatch, capsys, student, "me/small")
    patterns = hub[-1][1]["allow_patterns"]
    files = [one.relative_to(student).as_posix() for one in student.rglob("*") if one.is_file()]
    sent = set(filter_repo_objects(files, allow_patterns=patterns))
    assert code == 0 and sent == set(files) - {"a.part", ".cache/x"}


def test_a_dry_run_asks_nobody(monkeypatch, capsys, student, hub):
    code, said = run(monkeypatch, capsys, student, "me/small", "--dry-run")
    assert code == 0 and "model.safetensors" in said and "nothing was sent" in said
    assert hub == [] and "a.part" not in said


@pytest.mark.parametrize(
    ("licence", "said"),
    [("cc-by-nc-4.0", "forbids commercial use"), ("''", "the card names no licence")],
)
def test_licences_that_restrict_are_warned_of(monkeypatch, capsys, student, hub, licence, said):
    (student / "README.md").write_text(CARD.format(licence), encoding="utf-8")
    code, out = run(monkeypatch, capsys, student, "me/small", "--dry-run")
    assert code == 0 and "warning: " in out and said in out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "README.md").unlink(), "has no card (README.md)"),
        (lambda folder: (folder / "README.md").write_text("# A\n"), "has no metadata"),
        (lambda folder: (folder / "config.json").unlink(), "is no run folder and no folder"),
        (lambda folder: (folder / "x.bin").write_text("x"), "x.bin: pickles can run code"),
        (
            lambda folder: [(folder / name).write_text("x") for name in ("a.bin", "b.xml")],
            "a.bin: pickles can run code",
        ),
    ],
)
def test_what_is_not_sent(monkeypatch, capsys, student, hub, change, said):
    change(student)
    code, out = run(monkeypatch, capsys, student, "me/small")
    assert code == 1 and said in out and hub == []


def exported(folder, *files, there=True) -> None:
    """Make it a folder of `limbeck export`, which has the configuration and no weights."""
    (folder / "model.safetensors").unlink()
    candidates = [{"format": "any", "file": file} for file in files]
    told = json.dumps({"limbeck_export": 1, "candidates": candidates})
    (folder / "export.json").write_text(told, encoding="utf-8")
    for file in filter(None, files):
        if there:
            (folder / file).write_text("x", encoding="utf-8")


def test_exported_files_are_sent(monkeypatch, capsys, student, hub):
    """Also the weights of OpenVINO, which have the ending of pickles."""
    exported(student, None, "openvino_model.xml")
    (student / "openvino_model.bin").write_text("x", encoding="utf-8")
    code, said = run(monkeypatch, capsys, student, "me/small")
    assert code == 0 and "openvino_model.bin" in said
    assert "openvino_model.bin" in hub[2][1]["allow_patterns"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: exported(folder, None, None),
            "holds no model file (export.json names none",
        ),
        (lambda folder: exported(folder), "holds no model file (export.json names none"),
        (lambda folder: exported(folder, "a.onnx", there=False), "names a.onnx, not there)"),
        (
            lambda folder: [exported(folder), (folder / "export.json").write_text("[]")],
            "is not what `limbeck export` writes",
        ),
    ],
)
def test_exports_without_a_file_are_not_sent(monkeypatch, capsys, student, hub, change, said):
    change(student)
    code, out = run(monkeypatch, capsys, student, "me/small", "--dry-run")
    assert code == 1 and said in out and hub == []


def test_names_tokens_and_refusals(monkeypatch, capsys, student, hub):
    code, out = run(monkeypatch, capsys, student, "small")
    assert code == 1 and "give OWNER/NAME" in out
    request = httpx2.Request("POST", "https://huggingface.co/api/repos/create")

    def refuses(*_, **__):
        raise HfHubHTTPError("no", response=httpx2.Response(403, request=request))

    monkeypatch.setattr(push_module.HfApi, "create_repo", refuses)
    code, out = run(monkeypatch, capsys, student, "me/small")
    assert code == 1 and "the token may not write as me" in out and "Traceback" not in out

    def unreachable(*_, **__):
        raise httpx2.ConnectError("no route")

    monkeypatch.setattr(push_module.HfApi, "create_repo", unreachable)
    code, out = run(monkeypatch, capsys, student, "me/small")
    assert code == 1 and "the hub cannot be reached: no route" in out
    monkeypatch.setattr(push_module, "get_token", lambda: None)
    code, out = run(monkeypatch, capsys, student, "me/small")
    assert code == 1 and "hf auth login" in out
    monkeypatch.setattr(push_module.constants, "HF_HUB_OFFLINE", True)
    code, out = run(monkeypatch, capsys, student, "me/small")
    assert code == 1 and "HF_HUB_OFFLINE is set" in out
