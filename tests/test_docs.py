"""What the documents say of the files: the tree, the links, the recipes and studies."""

import ast
import importlib
import json
import re
import runpy
from pathlib import Path

import pytest
import typer
import yaml
from house import SOURCE, tree
from pydantic import TypeAdapter

from limbeck.cli.app import app
from limbeck.generation.options import StudentOptions
from limbeck.objectives.options import OPTIONS
from limbeck.recipe.methods import METHODS
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


def commands(page: Path) -> list[str]:
    """The commands of limbeck on a page, each on one line."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    text = text.replace("\\\n", " ")
    lines = re.findall(r"^\s*(?:!|\$ |# )?(?:torchrun .* -m )?limbeck (.+)$", text, re.MULTILINE)
    inline = re.findall(r"`limbeck ([^`]+)`", text)
    return [" ".join(one.split(" # ")[0].split()) for one in [*lines, *inline]]


COMMAND = typer.main.get_command(app)


def options_of(command: str) -> tuple[set[str], set[str]]:
    """The options that a command line gives, and those that its command has; none of a sentence."""
    at = COMMAND
    words = re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", command).split()
    while words and words[0].split("|")[0] in getattr(at, "commands", {}):
        at = at.commands[words.pop(0).split("|")[-1]]
    known = {name for one in at.params for name in (*one.opts, *one.secondary_opts)}
    return {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}, known


DOCUMENTS = [*PAGES, *sorted((ROOT / "docs").rglob("*.ipynb")), *sorted(ROOT.glob("*/*.yaml"))]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_options_of_documented_commands_are_there(page):
    for command in commands(page):
        given, known = options_of(command)
        assert given <= {*known, "--help"}, f"limbeck {command}"


def test_an_option_that_is_not_there_is_seen():
    given, known = options_of("export RUN -o DIR --tasks DIR/NAME")
    assert given - known == {"--tasks"}
    assert sum(len(options_of(one)[0]) for page in DOCUMENTS for one in commands(page)) > 300


def test_tables_of_the_results_are_drawn_from_their_files():
    hook = runpy.run_path(str(ROOT / "docs" / "site" / "result_tables.py"))
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "results").glob("*.md")]
    assert all(hook["drawn"](page) == page for page in pages)
    for file in (ROOT / "docs" / "results" / "data").glob("*.json"):
        assert any(f"data/{file.name}" in page for page in pages), f"{file.name} is on no page"


def test_a_table_that_says_anything_else_is_drawn_again():
    hook = runpy.run_path(str(ROOT / "docs" / "site" / "result_tables.py"))
    page = (ROOT / "docs" / "results" / "export.md").read_text(encoding="utf-8")
    assert page.count("| 152.7 |") == 1
    assert hook["drawn"](page.replace("| 152.7 |", "| 99.9 |")) == page


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


def recipes_of(page: str) -> list[dict]:
    """The recipes of a page for users of other packages; later ones change the first."""
    text = (ROOT / "docs" / "guide" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    first, *others = map(yaml.safe_load, blocks)
    return [first, *({**first, **other} for other in others)]


@pytest.mark.parametrize(
    ("page", "objectives"),
    [
        ("from_trl.md", [{"logits"}, {"logits"}]),
        (
            "from_textbrewer.md",
            [
                {"class_logits", "class_labels", "embeddings", "hidden_states"},
                {"logits", "labels", "hidden_states"},
            ],
        ),
        (
            "from_sentence_transformers.md",
            [{"sentence_vectors"}, {"sentence_similarities"}, {"margin_mse"}],
        ),
    ],
)
def test_recipes_for_users_of_other_packages_parse(page, objectives):
    found = []
    for recipe in recipes_of(page):
        parsed, problems = parse(recipe)
        assert problems == []
        found.append(set(parsed.stages[0].objectives))
    assert found == objectives


def test_recipes_for_users_of_trl_generate_as_trl_does():
    for recipe, fraction in zip(recipes_of("from_trl.md"), (1.0, 0.5), strict=True):
        policy = parse(recipe)[0].stages[0].policy
        assert isinstance(policy.rule, StudentOptions) and policy.options.fraction == fraction


def test_layers_and_weights_for_users_of_textbrewer_are_those_of_its_configuration():
    """Its states count from the embedding output, and its losses are not times the temperature."""
    page = (ROOT / "docs" / "guide" / "from_textbrewer.md").read_text(encoding="utf-8")
    theirs = [
        (int(student), int(teacher))
        for teacher, student in re.findall(r'"layer_T": (\d+), "layer_S": (\d+), \*\*', page)
    ]
    ours = recipes_of("from_textbrewer.md")[0]["stages"][0]["objectives"]
    assert theirs[0] == (0, 0) and "embeddings" in ours
    assert ours["hidden_states"]["layers"] == {s - 1: t - 1 for s, t in theirs[1:]}
    logits = ours["class_logits"]
    assert logits["weight"] == pytest.approx(1 / logits["temperature"] ** 2, rel=0.01)


def test_python_for_users_of_sentence_transformers_names_what_is_there():
    pytest.importorskip("sentence_transformers")
    page = (ROOT / "docs" / "guide" / "from_sentence_transformers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for node in ast.walk(ast.parse("\n".join(blocks))):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(name.name in dir(module) for name in node.names), ast.unparse(node)


def messages() -> list[str]:
    """Every text in the source, with … in place of values."""
    found = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_the_messages_of_the_troubleshooting_page_are_in_the_source():
    page = (ROOT / "docs" / "guide" / "troubleshooting.md").read_text(encoding="utf-8")
    named = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    assert len(named) == len(set(named)) == page.count("\n### ") > 40
    texts = messages()
    for message in named:
        form = re.compile(".*".join(map(re.escape, message.split("…"))), re.DOTALL)
        assert any(form.search(text) for text in texts), message


@pytest.mark.parametrize(
    ("drawing", "page"), [("headline", "english"), ("vocabulary_sizes", "vocabulary")]
)
def test_numbers_in_drawings_are_those_of_the_results(drawing, page):
    """Size and scores of each point, in one row of a table."""
    rows = (ROOT / "docs" / "results" / f"{page}.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in rows if line.startswith("| ")]
    image = (ROOT / "docs" / "images" / f"{drawing}.svg").read_text(encoding="utf-8")
    points = re.findall(r">([\d,]+ tokens: [\d.]+|[\d.]+, [\d.]+ %)<", image)
    assert len(points) >= 4
    for point in points:
        numbers = [number.removesuffix(".0") for number in re.findall(r"\d+[\d,]*\.?\d*", point)]
        assert any(
            all(re.search(rf"(?<![\d.]){re.escape(n)}(?![\d])", row) for n in numbers)
            for row in rows
        ), point


def test_the_first_table_is_that_of_the_results_and_of_the_drawing():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = (ROOT / "docs" / "results" / "english.md").read_text(encoding="utf-8")
    image = (ROOT / "docs" / "images" / "headline.svg").read_text(encoding="utf-8")
    table = readme[readme.index("| English encoder |") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 5
    for line in table:
        _, parameters, score, kept = (cell.strip() for cell in line.strip("| ").split("|"))
        assert f">{parameters}<" in image and f">{score}, {kept}<" in image
        assert f"{score} ±" in results and kept.split()[0] in results


@pytest.mark.parametrize("folder", ["recipes", "studies", "benchmarks"])
def test_files_that_documents_name_are_there(folder):
    for page in PAGES:
        for name in re.findall(rf"\b{folder}/\w+\.(?:yaml|py)", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_the_choice_table_names_every_objective_and_the_guide_every_method():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    table = "".join(line for line in index.splitlines() if line.startswith("| "))
    assert [name for name in OPTIONS if f"`{name}`" not in table] == []
    guide = (ROOT / "docs" / "guide" / "decoders.md").read_text(encoding="utf-8")
    rows = [row for row in guide.splitlines() if row.startswith("| `")]
    for name, method in METHODS.items():
        named = [row.split("|") for row in rows if row.startswith(f"| `{name}` ")]
        assert len(named) == 1, name
        assert named[0][2].strip() == f"`{method.policy}`"
        assert re.findall(r"`(\w+)`", named[0][3]) == [*method.objectives]


def test_every_example_of_the_python_page_runs(text_file, tmp_path, monkeypatch):
    """In one namespace, from top to bottom, as a reader would type them."""
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names = {"TEXT": str(text_file), "RUNS": tmp_path, "__name__": "page"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/python.md, example {number + 1}", "exec"), names)
    assert names["means"][-1] < names["means"][0]


def test_blocks_in_lists_are_indented_as_the_site_reads_them():
    indented = runpy.run_path(str(ROOT / "docs" / "site" / "lists.py"))["indented"]
    assert indented("- one\n  goes\n\n  | a |\n- two") == "- one\n    goes\n\n    | a |\n\n- two"
    assert indented("1. one\n\n   two\n\n  three") == "1. one\n\n    two\n\n  three"
    code = "- one\n\n```\n- two\n  three\n```\n\n    four"
    assert indented(code) == code


def test_examples_in_docstrings_are_code_in_the_reference():
    marked = runpy.run_path(str(ROOT / "docs" / "site" / "docstrings.py"))["marked"]
    given = "Two.\n\n>>> 1 + 1\n2\n>>> 2\n2\n\nSource: none."
    wanted = "Two.\n\n```pycon\n>>> 1 + 1\n2\n>>> 2\n2\n```\n\nSource: none.\n"
    assert marked(given) == wanted
    assert marked("One.") == "One.\n"


def test_the_gallery_has_every_recipe_and_study():
    page = runpy.run_path(str(ROOT / "docs" / "site" / "gallery.py"))["gallery"]()
    for folder, command in (("recipes", "distill"), ("studies", "compare")):
        for file in (ROOT / folder).glob("*.yaml"):
            name = f"{folder}/{file.name}"
            assert f"### {name}\n" in page and f"limbeck {command} {name} " in page
            assert f"(#{folder}{file.stem}yaml)" in page
