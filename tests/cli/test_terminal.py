"""What users have named is shown as it is, whatever rich would read in it."""

import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from results import NOTHING
from rich.console import Console

from limbeck.cli import terminal
from limbeck.cli.main import main
from limbeck.recipe.draft import draft
from limbeck.system.progress import ProgressBar

SOURCE = Path(__file__).parents[2] / "src"
NAMES = ["run[v2]", "run [/b]", "[INST] a [/INST]", ":fire:", "[red]"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_no_styles(name, capsys):
    terminal.console.print(f"report: {name}/report.html", highlight=False)
    terminal.error_console().print(f"error: {name}", highlight=False)
    terminal.print_table(name, [["column", name], [name, "b"]])
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == f"report: {name}/report.html"
    assert said.err == f"error: {name}\n"
    assert said.out.count(name) == 4


def test_no_console_reads_styles():
    """Those that commands make, and those that are silent, which would stop at "[/INST]" too."""
    texts = {file: file.read_text(encoding="utf-8") for file in SOURCE.rglob("*.py")}
    made = [
        (file, call) for file, text in texts.items() for call in re.findall(r"Console\(.+", text)
    ]
    assert [one for one in made if "markup=False" not in one[1]] == []
    assert [
        file for file, text in texts.items() if re.search(r"\[/?(yellow|red|bold)\]", text)
    ] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_bar_shows_the_name_of_its_job(name, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    shown = io.StringIO()
    with ProgressBar(name, console=Console(file=shown, force_terminal=True, width=100)) as bar:
        bar.show(1, 2, name)
    assert re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue()).count(name) >= 2


def test_a_long_path_is_on_one_line(monkeypatch, capsys):
    """A terminal of 80 columns broke it in two, which nobody can copy."""
    monkeypatch.setenv("COLUMNS", "80")
    model = {
        **dict.fromkeys(("name", "precision"), "small"),
        **dict.fromkeys(("parameters", "embedding_parameters", "vocabulary_size"), 10),
        **dict.fromkeys(("megabytes", "cpu_ms_per_sentence"), 1.0),
        **{"threads": 1, "pieces_per_sentence": 64, "latencies": [], "peak_memory_bytes": None},
        "cpu_ms_per_written_piece": None,
    }
    folder = Path("a folder") / ("long " * 30)
    named = {"name": "a run", "limbeck_version": "0", "student": model}
    terminal.print_report({**NOTHING, **named}, folder)
    lines = capsys.readouterr().out.splitlines()
    assert f"report: {folder / 'report' / 'report.html'}" in lines
    assert f"student: {folder / 'student'}" in lines


def test_the_next_command_can_be_copied(monkeypatch, capsys):
    monkeypatch.setattr(
        draft, "write_recipe", lambda *_, **_named: SimpleNamespace(text="name: a", warnings=[])
    )
    words = ["--teacher", "a", "--kind", "student", "--max-size", "5M", "--text", "a.txt"]
    monkeypatch.setattr(sys, "argv", ["limbeck", "init", "my recipe.yaml", *words])
    with pytest.raises(SystemExit):
        main()
    assert "(next: limbeck plan 'my recipe.yaml')" in capsys.readouterr().out
