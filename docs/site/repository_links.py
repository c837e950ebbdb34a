"""Pages for files outside docs/, so that a link to one works on the site as on a code host.

README.md becomes the start page, docs/index.md the page choose.md beside it, and every other file
that a page links to a page that shows it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# The place in the repository of each page that does not stand in docs/ under its own name.
PLACES = {
    "index.md": "README.md",
    "choose.md": "docs/index.md",
    "contributing.md": "CONTRIBUTING.md",
}
_LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/ and a page for each file outside of it that is linked to."""
    choice_table = files.get_file_from_path("index.md")
    if choice_table is not None:
        files.remove(choice_table)
    for page, place in list(PLACES.items()):
        files.append(File.generated(config, page, content=_text(place)))
    for file in list(files.documentation_pages()):
        place = _place(file.src_uri)
        for target in _targets(place, file.content_string):
            page = _page(target)
            if files.get_file_from_path(page) is None and (ROOT / target).is_file():
                PLACES[page] = target
                shown = File.generated(
                    config, page, content=_shown(target), inclusion=InclusionLevel.NOT_IN_NAV
                )
                files.append(shown)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with every link to a file of the repository as a link to its page."""
    here = page.file.src_uri
    place = _place(here)

    def led(match: re.Match[str]) -> str:
        target = _page(posixpath.normpath(posixpath.join(posixpath.dirname(place), match[1])))
        if ":" in match[1] or files.get_file_from_path(target) is None:
            return match[0]
        return f"]({posixpath.relpath(target, posixpath.dirname(here) or '.')}{match[2] or ''})"

    return _LINK.sub(led, markdown)


def _place(page: str) -> str:
    """The place in the repository of a page of the site."""
    return PLACES.get(page, f"docs/{page}")


def _page(place: str) -> str:
    """The page of the site for a place in the repository."""
    for page, known in PLACES.items():
        if known == place:
            return page
    if place.startswith("docs/"):
        return place.removeprefix("docs/").replace(".ipynb", ".md")
    return f"files/{place}" if place.endswith(".md") else f"files/{place}.md"


def _targets(place: str, text: str) -> set[str]:
    """The places in the repository that the links of a text name."""
    folder = posixpath.dirname(place)
    named = {match[1] for match in _LINK.finditer(text) if ":" not in match[1]}
    return {posixpath.normpath(posixpath.join(folder, target)) for target in named}


def _text(place: str) -> str:
    return (ROOT / place).read_text(encoding="utf-8")


def _shown(place: str) -> str:
    """A Markdown file as it is; any other as code under its name."""
    if place.endswith(".md"):
        return _text(place)
    return f"# {place}\n\n~~~~~~{Path(place).suffix.lstrip('.')}\n{_text(place)}\n~~~~~~\n"
