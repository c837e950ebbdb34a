"""Blocks within list items: code hosts indent them to the text of the item, mkdocs by 4 spaces."""

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_INDENT = 4
_MADE_HERE = ("recipes.md", "reference/")  # pages of the other hooks, which indent as mkdocs does
_ITEM = re.compile(r"(-|\d+\.) ")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with what belongs to a list item indented so that mkdocs sees it."""
    return markdown if page.file.src_uri.startswith(_MADE_HERE) else indented(markdown)


def indented(markdown: str) -> str:
    """Markdown whose list items have their tables, code and paragraphs four spaces to the right."""
    found: list[str] = []
    text = 0  # where the text of the current item begins; 0 outside of lists
    blocks = False  # whether the current item has more than its first paragraph
    fenced = False
    for line in markdown.split("\n"):
        fenced ^= line.startswith("```")
        if item := None if fenced else _ITEM.match(line):
            if blocks and found[-1]:
                found.append("")
            text, blocks = len(item[0]), False
        elif line and not line.startswith(" "):
            text, blocks = 0, False
        inside = text and line.startswith(" " * text)
        blocks |= bool(inside and not found[-1])
        found.append(" " * (_INDENT - text) + line if inside else line)
    return "\n".join(found)
