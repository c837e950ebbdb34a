"""Tables of the results, drawn from the numbers in docs/results/data.

    python docs/site/result_tables.py

writes every table of a page that stands between two comments:

    <!-- table of data/NAME.json: WHICH -->
    <!-- end of the table -->

`benchmarks/results_data.py` makes the files. The site and the tests refuse a page whose table says
anything else than its file.
"""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

RESULTS = Path(__file__).parents[1] / "results"
_TABLE = re.compile(
    r"(?P<begin><!-- table of data/(?P<file>[\w.]+): (?P<which>\w+) -->\n)"
    r"(?P<table>.*?)"
    r"(?P<end><!-- end of the table -->)",
    re.DOTALL,
)


def drawn(markdown: str) -> str:
    """A page with its tables drawn from the files that they name."""
    return _TABLE.sub(
        lambda found: found["begin"] + _table(found["file"], found["which"]) + found["end"],
        markdown,
    )


def _table(file: str, which: str) -> str:
    """A table of a file; numbers as the column's format has them, what is not known left empty."""
    table: Any = json.loads((RESULTS / "data" / file).read_text(encoding="utf-8"))["tables"][which]
    names, formats = zip(*table["columns"], strict=True)
    lines = [_line(names), _line("---:" if form else "---" for form in formats)]
    for row in table["rows"]:
        lines.append(_line(_cell(*pair) for pair in zip(row, formats, strict=True)))
    return "".join(lines)


def _cell(value: str | float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _line(cells: Any) -> str:
    return re.sub(r"  +\|", " |", f"| {' | '.join(cells)} |\n")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page as it is.

    Raises:
        PluginError: A table says anything else than its file.
    """
    if drawn(markdown) != markdown:
        raise PluginError(
            f"a table of {page.file.src_uri} is not that of its file in docs/results/data; run"
            " python docs/site/result_tables.py"
        )
    return markdown


if __name__ == "__main__":
    for one in sorted(RESULTS.glob("*.md")):
        before = one.read_text(encoding="utf-8")
        if (after := drawn(before)) != before:
            one.write_text(after, encoding="utf-8")
