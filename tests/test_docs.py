"""What the documents say of the files: the tree, the links, the recipes and studies."""

import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from limbeck.parse import parse_recipe
from limbeck.study import Study, arm_recipe, read_study

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "limbeck"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What a link may name of a page: its headings as the web shows them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def tree() -> dict[str, set[str]]:
    """Every Python file that the README's tree names, by its room; "" is the top."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text[text.index("src/limbeck/\n") :]
    block = block[: block.index("\ntests/")]
    found: dict[str, set[str]] = {"": set()}
    room = ""
    for line in block.splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.findall(r"(?<![\w.])([\w]+\.py|[\w]+/)(?= |$)", line)
        if depth == 1:
            room = ""
        if depth == 1 and names and names[0].endswith("/"):
            room = names[0].rstrip("/")
            found.setdefault(room, set())
            names = names[1:]
        found[room] |= {name for name in names if name.endswith(".py")}
    return found


def test_the_tree_names_every_module_and_no_other():
    there: dict[str, set[str]] = {}
    for file in SOURCE.rglob("*.py"):
        parts = file.relative_to(SOURCE).parts
        if file.name != "__init__.py":
            there.setdefault("" if len(parts) == 1 else parts[0], set()).add(file.name)
    named = {
        room: files - {"__init__.py"} for room, files in tree().items() if files - {"__init__.py"}
    }
    missing = {room: files - named.get(room, set()) for room, files in there.items()}
    made_up = {room: files - there.get(room, set()) for room, files in named.items()}
    assert {room: files for room, files in missing.items() if files} == {}
    assert {room: files for room, files in made_up.items() if files} == {}


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda f: f.stem)
def test_every_study_of_the_house_parses(file):
    study = TypeAdapter(Study).validate_python(read_study(file))
    assert study.control in study.arms
    for arm, fields in study.arms.items():
        for student, sizes in study.students.items():
            _, problems = parse_recipe(arm_recipe(study, sizes, fields))
            assert problems == [], f"{arm} ({student})"


@pytest.mark.parametrize("folder", ["recipes", "studies", "benchmarks"])
def test_files_that_documents_name_are_there(folder):
    for page in PAGES:
        for name in re.findall(rf"\b{folder}/\w+\.(?:yaml|py)", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name} names {name}"
