"""Every cell of the tutorials runs, with small sizes: `make tutorials`.

    python tests/execute_tutorials.py NAME FOLDER

runs one with its own sizes in a folder, where runs that are there resume, and stores its outputs.
"""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import make_chatting
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
SECONDS = 3600  # of one cell, at most
SMALL = {
    "classifier": {"TEACHER_EPOCHS": 0.05, "EPOCHS": 0.05, "KEEP": 0.0},
    "embeddings": {
        "TEACHER": "minilm-demo",
        "PROMPT": "",
        "VOCAB_SIZE": 3000,
        "LAYERS": 1,
        "TEXTS": 400,
        "KNOWN": 100,
    },
    "chat": {
        "TEACHER": "chatting",
        "LAYERS": 1,
        "REQUESTS": 40,
        "SCORED": 8,
        "LONGEST_ANSWER": 12,
        "MAX_LENGTH": 200,
        "STEPS": 3,
    },
}
_COMMAND = re.compile(r"^!(?:.*\\\n)*.*$", re.MULTILINE)
_CHECK = "\nassert _exit_code == 0, _exit_code"  # a command that fails does not fail its cell


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run every cell in a folder, with the commands of this installation.

    Raises:
        CellExecutionError: A cell or a command fails.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = _COMMAND.sub(lambda found: found[0] + _CHECK, cell.source)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, record_timing=False, resources=resources).execute()


def store(name: str, folder: Path) -> None:
    """Run a tutorial as it is, and store what it prints and draws."""
    file = TUTORIALS / f"{name}.ipynb"
    notebook = nbformat.read(file, as_version=4)
    execute(notebook, folder)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = cell.source.replace(_CHECK, "")
            cell.outputs = shown(cell.outputs)
    nbformat.write(notebook, file)


def shown(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Drawings and text of the standard output; what libraries log is of the machine."""
    found: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if found and "stream" == output.output_type == found[-1].output_type:
            found[-1].text += output.text
        else:
            found.append(output)
    for output in found:
        if output.output_type == "stream":
            lines = output.text.replace("\r\n", "\n").split("\n")
            output.text = "\n".join(map(str.rstrip, lines)).rstrip() + "\n"
    return found


@pytest.mark.filterwarnings("default")  # of Jupyter's own
@pytest.mark.parametrize("name", [file.stem for file in sorted(TUTORIALS.glob("*.ipynb"))])
def test_every_cell_runs(name, tmp_path, monkeypatch):
    make_chatting(tmp_path / "chatting", positions=256)
    notebook = nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)
    tags = [cell.metadata.get("tags", ()) for cell in notebook.cells]
    [place] = [number for number, tag in enumerate(tags) if "parameters" in tag]
    known = re.findall(r"(?m)^(\w+) = ", notebook.cells[place].source)
    assert set(SMALL[name]) <= set(known)
    settings = "\n".join(f"{key} = {value!r}" for key, value in SMALL[name].items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(settings))
    monkeypatch.setenv("PATH", os.environ["PATH"])  # put back when the test ends
    execute(notebook, tmp_path)


if __name__ == "__main__":
    store(sys.argv[1], Path(sys.argv[2]))
