"""The schema that ships says of a recipe what the code says of it."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from limbeck.generation.options import RULE_OPTIONS
from limbeck.objectives.options import OPTIONS
from limbeck.recipe.json_schema import recipe_schema, schema_text

ROOT = Path(__file__).parents[2]
FILE = ROOT / "src" / "limbeck" / "recipe" / "recipe.schema.json"
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(recipe_schema())
STAGE = {"objectives": {"labels": {}}, "max_steps": 1}


def problems_of(**changes):
    raw = {"student": {}, "data": {"text": "a.txt"}, "stages": [STAGE], **changes}
    return [error.message for error in VALIDATOR.iter_errors(raw)]


def test_the_file_is_what_the_code_says():
    assert FILE.read_text(encoding="utf-8") == schema_text(), (
        "run: limbeck schema > src/limbeck/recipe/recipe.schema.json"
    )
    VALIDATOR.check_schema(recipe_schema())


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_names_it_and_keeps_to_it(file):
    text = file.read_text(encoding="utf-8")
    first = text.splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (file.parent / named).resolve() == FILE
    assert list(VALIDATOR.iter_errors(yaml.safe_load(text))) == []


def test_short_forms():
    assert problems_of(teacher="minilm-demo", student="small") == []
    assert problems_of(data={"text": ["a.txt", {"path": "b.csv", "weight": 2}]}) == []
    assert problems_of(data={"prompts": "answers"}) == []
    chats = {"path": "chats.parquet", "messages": "talk", "split": "train_sft"}
    assert problems_of(data={"prompts": chats, "packing": "all"}) == []
    assert problems_of(data={"prompts": ["answers", chats]}) == []
    assert problems_of(method="gkd", stages=[{"max_steps": 1}]) == []
    for form in ("match", {"kind": "reduce"}, None):
        assert problems_of(stages=[{**STAGE, "alignment": form}]) == []
    for form in ("switch", "corpus", {"kind": "speculative", "top_k": 3, "draft_length": 4}):
        assert problems_of(stages=[{**STAGE, "policy": form}]) == []
    own = {"mine": {"kind": "logits", "weight": {"start": 1, "end": 0}}}
    assert problems_of(stages=[{**STAGE, "objectives": own}]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"student": {"hidden": 3}},
        {"data": {"length": 3}},
        {"data": {"prompts": {"path": "chats.parquet", "mesages": "talk"}}},
        {"stages": [{**STAGE, "objectives": {"relations": {"heds": 3}}}]},
        {"stages": [{**STAGE, "objectives": {"relation": {}}}]},
        {"stages": [{**STAGE, "policy": {"kind": "switch", "tua": 1}}]},
        {"stages": [{**STAGE, "preset": "minilmv3"}]},
        {"method": "gdk"},
        {"evaluation": {"writing": {}}},
    ],
)
def test_what_it_refuses(changes):
    assert problems_of(**changes)


def test_every_option_is_described():
    schema = recipe_schema()["$defs"]["StagePart"]["properties"]
    for name in OPTIONS:
        options = schema["objectives"]["properties"][name]
        assert all("description" in field for field in options["properties"].values()), name
    policy = schema["policy"]["anyOf"][1]["properties"]
    named = {field for options in RULE_OPTIONS.values() for field in options.__annotations__}
    assert named <= set(policy)
    assert all("description" in field for name, field in policy.items() if name != "kind")
