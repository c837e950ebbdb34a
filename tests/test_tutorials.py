"""What is stored in the tutorials: outputs of a whole run, that say nothing of the machine."""

import ast
import base64
import re
import runpy
from pathlib import Path

import nbformat
import pytest
from test_docs import anchors
from test_house_words import OLD, words_of

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
MOST_BYTES = 300_000
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PLACE = re.compile(r"/(?:tmp|home|root|Users|opt|mnt|work|usr)/")
each = pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)


def cells_of(file, kind):
    return [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == kind]


def said_in(output):
    """The text of an output."""
    return output.get("text") or output.get("data", {}).get("text/plain", "")


@each
def test_outputs_are_those_of_a_whole_run(file):
    nbformat.validate(nbformat.read(file, as_version=4))
    cells = cells_of(file, "code")
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert len(outputs) >= 8
    assert {output.output_type for output in outputs} <= {"stream", "display_data"}
    assert not any(re.search(r"\x1b|Traceback", said_in(output)) for output in outputs)
    assert file.stat().st_size < MOST_BYTES


@each
def test_nothing_is_said_of_the_machine(file):
    for cell in nbformat.read(file, as_version=4).cells:
        for text in (cell.source, *map(said_in, cell.get("outputs", ()))):
            assert not _PLACE.search(text), text


@each
def test_sizes_stand_in_one_cell(file):
    """So that a test can give smaller ones."""
    [cell] = [c for c in cells_of(file, "code") if "parameters" in c.metadata.get("tags", ())]
    assert cell == cells_of(file, "code")[0]
    assert all(isinstance(node, ast.Assign) for node in ast.parse(cell.source).body)


@each
def test_drawings_are_described(file):
    for cell in cells_of(file, "code"):
        drawn = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        assert bool(drawn) == ("alt" in cell.metadata) and len(drawn) <= 1
        assert not drawn or len(cell.metadata["alt"]) > 30


@each
def test_words_and_links(file):
    text = "\n".join(cell.source for cell in nbformat.read(file, as_version=4).cells)
    found = [word for word in OLD if re.search(rf"\b({word})\b", words_of(text))]
    assert found == []
    for target in _LINK.findall("\n".join(cell.source for cell in cells_of(file, "markdown"))):
        path, _, anchor = target.partition("#")
        if ":" not in path:
            assert (file.parent / path).exists(), target
            assert not anchor or anchor in anchors(file.parent / path), target


def test_every_tutorial_is_in_the_menu():
    lines = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").splitlines()
    named = [line.strip() for line in lines if "tutorials/" in line and line.endswith(".md")]
    assert sorted(named) == [f"- tutorials/{file.stem}.md" for file in TUTORIALS]
    for page in ("README.md", "docs/index.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert all(f"tutorials/{file.name}" in text for file in TUTORIALS)


def test_a_notebook_becomes_a_page():
    page_of = runpy.run_path(str(ROOT / "docs" / "site" / "notebooks.py"))["page_of"]
    drawing = base64.b64encode(b"drawn").decode()
    code = {
        "cell_type": "code",
        "source": ["print(1)\n", "plot()"],
        "metadata": {"alt": "A line"},
        "outputs": [{"text": "1\n```\n"}, {"data": {"image/png": drawing, "text/plain": "<F>"}}],
    }
    cells = [{"cell_type": "markdown", "source": "# One\n\nLead."}, code]
    page, drawings = page_of({"cells": cells}, "one")
    assert page.startswith("# One\n\n<p><a href=") and "\n\nLead.\n\n```python\nprint(1)" in page
    assert "````text\n1\n```\n````" in page and "![A line](one-1.png)" in page
    assert drawings == {"one-1.png": b"drawn"}
