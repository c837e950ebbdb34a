"""Pages of the tutorials, made of the notebooks and of the outputs that are stored in them."""

import base64
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_NOTEBOOK = ".ipynb"
_PNG = "image/png"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/, and a page with drawings for each notebook."""
    for notebook in [file for file in files if file.src_uri.endswith(_NOTEBOOK)]:
        place = PurePosixPath(notebook.src_uri)
        text, drawings = page_of(json.loads(notebook.content_string), place.stem)
        files.append(File.generated(config, str(place.with_suffix(".md")), content=text))
        for name, drawing in drawings.items():
            files.append(File.generated(config, str(place.parent / name), content=drawing))
    return files


def page_of(notebook: Mapping[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the drawings that it shows by their file names.

    Args:
        notebook: As JSON holds it.
        name: Of its file, without the ending.
    """
    title, *cells = notebook["cells"]
    heading, _, lead = _joined(title["source"]).partition("\n")
    link = f'<p><a href="{name}{_NOTEBOOK}" download>This page as a notebook</a></p>'
    blocks = [heading, link, lead.strip()]
    drawings: dict[str, bytes] = {}
    for cell in cells:
        source = _joined(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(source)
            continue
        blocks.append(_fenced(source, "python"))
        for output in cell["outputs"]:
            data = output.get("data", {})
            if _PNG in data:
                file = f"{name}-{len(drawings) + 1}.png"
                drawings[file] = base64.b64decode(_joined(data[_PNG]))
                blocks.append(f"![{cell['metadata']['alt']}]({file})")
            else:
                said = _joined(output.get("text") or data["text/plain"]).rstrip()
                blocks.append(f'<div class="output" markdown>\n\n{_fenced(said, "text")}\n\n</div>')
    return "\n\n".join(blocks) + "\n", drawings


def _joined(lines: str | list[str]) -> str:
    """A text that the file may hold as a list of lines."""
    return lines if isinstance(lines, str) else "".join(lines)


def _fenced(text: str, language: str) -> str:
    """A block of code, with a fence that the text does not hold."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
