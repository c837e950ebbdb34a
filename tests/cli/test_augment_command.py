"""`limbeck augment`."""

import json
import sys

import pytest

from limbeck.cli.main import main


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["limbeck", "augment", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), " ".join(said.out.split()), " ".join(said.err.split())


def test_rows_are_made_and_counted(monkeypatch, capsys, teacher_folder, task_files, tmp_path):
    file = tmp_path / "more.jsonl"
    options = ["--masked", teacher_folder, "--spans", "--copies", 1, "--precision", "float32"]
    code, out, _ = run(monkeypatch, capsys, task_files / "labels", "-o", file, *options)
    assert code == 0
    count = len(file.read_text(encoding="utf-8").splitlines())
    assert f"more.jsonl: {count} rows" in out
    for words in ("labels: 200 training rows", "dev 40", "words replaced", "spans joined"):
        assert words in out
    mapping = json.dumps({"path": str(task_files / "plain.train.jsonl"), "text": "text"})
    code, out, _ = run(monkeypatch, capsys, mapping, "-o", tmp_path / "b.jsonl", "--spans")
    assert code == 0 and "it has no scored rows" in out
    code, _, err = run(monkeypatch, capsys, mapping, "-o", tmp_path / "b.jsonl", "--spans")
    assert code == 1 and "is there already" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--copies", 4], "no way to make rows is chosen"),
        (["--spans", "--copies", 0], "copies is 0"),
        (["--spans", "--device", "abacus"], "device is 'abacus'; use auto or cuda or mps or cpu"),
        (["--spans", "--precision", "half"], "precision is 'half'"),
    ],
)
def test_bad_options(monkeypatch, capsys, tmp_path, options, said):
    code, _, err = run(monkeypatch, capsys, tmp_path / "t", "-o", tmp_path / "a.jsonl", *options)
    assert code == 1 and said in err
