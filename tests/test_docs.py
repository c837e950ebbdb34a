"""What the documents say of the files: the tree, the links, the recipes and studies."""

import re
from pathlib import Path

import pytest
import yaml
from house import SOURCE, tree
from pydantic import TypeAdapter

from limbeck.generation.options import StudentOptions
from limbeck.recipe.parse import parse, parse_recipe
from limbeck.study.schema import Study, arm_recipe, read_study

ROOT = Path(__file__).parents[1]
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


def test_the_tree_names_every_module_and_no_other():
    there = {file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py")}
    there -= {name for name in there if name.endswith("/__init__.py")}
    named = [module for room in tree().values() for module in room]
    assert sorted(named) == sorted(there)


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda f: f.stem)
def test_every_study_of_the_house_parses(file):
    study = TypeAdapter(Study).validate_python(read_study(file))
    assert study.control in study.arms
    for arm, fields in study.arms.items():
        for student, sizes in study.students.items():
            _, problems = parse_recipe(arm_recipe(study, sizes, fields))
            assert problems == [], f"{arm} ({student})"


def test_recipes_for_users_of_trl_parse():
    page = (ROOT / "docs" / "guide" / "from_trl.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    on_policy, gkd = map(yaml.safe_load, blocks)
    gkd = {"teacher": on_policy["teacher"], "student": on_policy["student"], **gkd}
    for recipe, fraction in ((on_policy, 1.0), (gkd, 0.5)):
        parsed, problems = parse(recipe)
        assert problems == []
        policy = parsed.stages[0].policy
        assert isinstance(policy.rule, StudentOptions) and policy.options.fraction == fraction


@pytest.mark.parametrize("folder", ["recipes", "studies", "benchmarks"])
def test_files_that_documents_name_are_there(folder):
    for page in PAGES:
        for name in re.findall(rf"\b{folder}/\w+\.(?:yaml|py)", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_every_example_of_the_python_page_runs(text_file, tmp_path, monkeypatch):
    """In one namespace, from top to bottom, as a reader would type them."""
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names = {"TEXT": str(text_file), "RUNS": tmp_path, "__name__": "page"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/python.md, example {number + 1}", "exec"), names)
    assert names["means"][-1] < names["means"][0]
