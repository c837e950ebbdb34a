"""Pages of the public names, which mkdocstrings fills with their docstrings."""

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).parents[2] / "src" / "limbeck"
_TOP = """# limbeck

A recipe carried out, and a model folder loaded. [limbeck from Python](../python.md) has examples.

::: limbeck.run.distill.distill
    options: {heading: limbeck.distill, toc_label: distill}

::: limbeck.run.distill.Run

::: limbeck.deploy.load.load
    options: {heading: limbeck.load, toc_label: load}

## Errors

::: limbeck.errors
    options:
      {show_root_heading: false, show_root_toc_entry: false, heading_level: 3, filters: ["!^[a-z]"]}
"""
_TEXT_ALONE = "    options: {members: false, show_root_heading: false, show_root_toc_entry: false}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """A page for `limbeck`, and one for every room that names its public names."""
    files.append(File.generated(config, "reference/limbeck.md", content=_TOP))
    for init in sorted(SOURCE.glob("*/__init__.py")):
        room = init.parent.name
        if names := public_names(init):
            page = _page(f"limbeck.{room}", names, fields=room == "recipe")
            files.append(File.generated(config, f"reference/{room}.md", content=page))
    return files


def _page(room: str, names: list[str], *, fields: bool) -> str:
    """What a room says of itself, then each of its names.

    Args:
        room: As ``limbeck.recipe``.
        names: That are shown.
        fields: Show fields without a docstring; those of dataclasses stand in that of the class.
    """
    listed = ", ".join(f"[`{name}`][{room}.{name}]" for name in names)
    found = [
        f"# {room}",
        f"::: {room}\n{_TEXT_ALONE}",
        listed,
    ]
    options = f"    options: {{show_if_no_docstring: {str(fields).lower()}}}"
    found += [f"::: {room}.{name}\n{options}" for name in names]
    return "\n\n".join(found) + "\n"


def public_names(init: Path) -> list[str]:
    """`__all__` of a module, read and not run; empty where it has none."""
    for node in ast.parse(init.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []
