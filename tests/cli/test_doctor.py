"""`limbeck doctor`."""

import json
import sys

import pytest

from limbeck.cli.main import main
from limbeck.cli.terminal import console


def doctor(monkeypatch, capsys, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["limbeck", "doctor", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


def test_tables_and_json_say_the_same(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out = doctor(monkeypatch, capsys)
    words = " ".join(out.split())
    assert code == 0 and max(map(len, out.splitlines())) <= console.width
    for said in ("precision", "Extras", "sentence-transformers", "HF_HUB_OFFLINE=1", "Notes"):
        assert said in words
    code, out = doctor(monkeypatch, capsys, "--json")
    found = json.loads(out)
    assert code == 0 and found["machine"]["torch"]["precision"] in words
    places = {place["what"]: place["path"] for place in found["places"]}
    assert places["prepared text"] == str(tmp_path)
    assert found["versions"]["torch"] in words
    assert set(found["findings"][-1]["change"].split()) <= set(words.split())


def test_the_command_of_a_missing_extra_keeps_its_brackets(monkeypatch, capsys):
    monkeypatch.setattr(
        "limbeck.system.checkup.packages.version_of", {"torch": "2.13.0", "numpy": "2.0"}.get
    )
    code, out = doctor(monkeypatch, capsys)
    assert code == 0 and "'limbeck[onnx]'" in out and "Problems" in out
