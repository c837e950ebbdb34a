"""The recipes and studies of the repository as one page, made of the files themselves."""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGE = "recipes.md"
_LEAD = """# Recipes and studies

Every file in `recipes/` and `studies/`, with what it is for, what is learned, and the command. A
recipe is one training; a study compares several. How they are made: [recipes](guide/recipes.md),
[studies](guide/studies.md).
"""
_NAMED = re.compile(r"(?<!\[)`((?:recipes|studies)/(\w+)\.yaml)`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/ and the gallery."""
    files.append(File.generated(config, PAGE, content=gallery()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with the name of every recipe as a link to its place in the gallery."""
    if page.file.src_uri == PAGE:
        return markdown
    there = posixpath.relpath(PAGE, posixpath.dirname(page.file.src_uri) or ".")
    return _NAMED.sub(lambda name: f"[`{name[1]}`]({there}#{_anchor(name[1])})", markdown)


def gallery() -> str:
    """The page: cards that lead to the files below them."""
    cards, details = [], []
    for folder in ("recipes", "studies"):
        files = sorted((ROOT / folder).glob("*.yaml"))
        shown = [_Shown(file) for file in files]
        listed = "\n".join(file.card() for file in shown)
        cards.append(
            f'## {folder.capitalize()}\n\n<div class="grid cards" markdown>\n\n{listed}\n\n</div>\n'
        )
        details += [file.details() for file in shown]
    return "\n".join([_LEAD, *cards, "## The files\n", *details])


class _Shown:
    """A recipe or study as the gallery shows it."""

    def __init__(self, file: Path) -> None:
        self.text = file.read_text(encoding="utf-8")
        self.place = f"{file.parent.name}/{file.name}"
        self.name = file.stem
        self.keys: Mapping[str, Any] = yaml.safe_load(self.text)
        self.is_study = file.parent.name == "studies"
        above = self.text.split("\nname:")[0].splitlines()
        said = [line.removeprefix("#") for line in above if line.startswith("#")]
        self.said = [line.removeprefix(" ") for line in said if "yaml-language-server" not in line]

    def card(self) -> str:
        """What it is in one sentence, and what is learned."""
        sentence = re.split(r"(?<=[.:])(?<!al\.)\s", " ".join(" ".join(self.said).split()))[0]
        sentence = sentence.removesuffix(":").removesuffix(".") + "."
        name = f"- **[{self.name}](#{_anchor(self.place)})**"
        return f"{name}\n\n    {sentence}\n\n    {self.learned()}\n"

    def details(self) -> str:
        """The whole comment, the command and the file."""
        command = "compare" if self.is_study else "distill"
        file = "\n".join(f"    {line}" for line in self.text.splitlines())
        return (
            f"### {self.place}\n\n{_as_markdown(self.said)}\n\n"
            f"{self.learned()}\n\n"
            f"```\nlimbeck {command} {self.place} -o runs/{self.name}\n```\n\n"
            f'??? note "{self.place}"\n\n    ```yaml\n{file}\n    ```\n'
        )

    def learned(self) -> str:
        """The method of a recipe, or the arms of a study."""
        if self.is_study:
            arms = ", ".join(f"`{arm}`" for arm in self.keys["arms"])
            return f"*Arms:* {arms}; control: `{self.keys['control']}`"
        method = [f"method `{self.keys['method']}`"] if "method" in self.keys else []
        stages = filter(None, map(_stage, self.keys["stages"]))
        return "*Learned:* " + ", then ".join([*method, *stages])


def _stage(stage: Mapping[str, Any]) -> str:
    """What one stage learns."""
    named = [f"preset `{stage['preset']}`"] if "preset" in stage else []
    named += [f"`{name}`" for name in stage.get("objectives", {})]
    named += ["mixed vocabulary"] if "mixed" in stage else []
    said = " and ".join(named)
    for key in ("alignment", "policy"):
        if key in stage:
            kind = stage[key]["kind"] if isinstance(stage[key], Mapping) else stage[key]
            said += f" ({key} `{kind}`)"
    return said


def _as_markdown(lines: list[str]) -> str:
    """A comment as paragraphs; its indented lines are commands."""
    found: list[str] = []
    for line in lines:
        is_code = line.startswith("  ")
        if found and is_code != found[-1].startswith("    "):
            found.append("")
        found.append(f"    {line.strip()}" if is_code else line)
    return "\n".join(found)


def _anchor(place: str) -> str:
    """The anchor of a file's heading."""
    return re.sub(r"[^\w-]", "", place)
