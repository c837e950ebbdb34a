"""The JSON schema of recipes, by which editors complete and check their keys.

It is made of the same models that check a recipe; what those leave to other code (objectives,
policies, methods, presets, short forms) is filled in here.
"""

import inspect
import json
import re
from typing import Any

from pydantic import TypeAdapter

from ..generation.options import RULE_OPTIONS, PolicyOptions
from ..objectives.options import OPTIONS
from ..objectives.presets import PRESETS
from ..objectives.schedule import NumberOrRamp
from .methods import METHODS
from .parse_policy import KINDS
from .schema import Recipe

_ATTRIBUTE = re.compile(r"^    (\w+): (.+?)(?=\n    \w+: |\n\n|\Z)", re.MULTILINE | re.DOTALL)


def recipe_schema() -> dict[str, Any]:
    """The schema of a recipe as YAML or JSON has it."""
    schema = Recipe.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    fields = schema["properties"]
    for name in ("teacher", "student"):
        fields[name] = _also(fields[name], {"type": "string", "description": "a model's name"})
    fields["method"] = {"enum": [*METHODS], "description": "a whole method, laid under the recipe"}
    data = definitions["DataPart"]["properties"]
    data["text"] = _also(data["text"], {"type": "string"}, {"$ref": "#/$defs/TextSource"})
    data["text"]["anyOf"][0]["items"] = {"anyOf": [{"$ref": "#/$defs/TextSource"}, _STRING]}
    data["prompts"] = _also(data["prompts"], _STRING, {"$ref": "#/$defs/PromptSource"})
    stage = definitions["StagePart"]["properties"]
    stage["preset"] = {"enum": [*PRESETS, None], "description": stage["preset"]["description"]}
    kinds = {"enum": ["match", "reduce", "boundaries"]}
    stage["alignment"] = _also(stage["alignment"], kinds)
    stage["policy"] = {
        "anyOf": [{"enum": [*KINDS, None]}, _policy_schema(definitions)],
        "description": stage["policy"]["description"],
    }
    stage["objectives"] = {
        "type": "object",
        "properties": {name: _objective_schema(name, definitions) for name in OPTIONS},
        "additionalProperties": {"type": "object", "required": ["kind"]},
        "description": stage["objectives"]["description"],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The schema as the file that ships has it."""
    return json.dumps(recipe_schema(), indent=1, ensure_ascii=False) + "\n"


_STRING: dict[str, Any] = {"type": "string"}


def _also(field: dict[str, Any], *forms: dict[str, Any]) -> dict[str, Any]:
    """A field that may have other forms too."""
    own = {key: value for key, value in field.items() if key not in ("default", "description")}
    kept: dict[str, Any] = {key: value for key, value in field.items() if key not in own}
    return {"anyOf": [*own.pop("anyOf", [own]), *forms], **kept}


def _objective_schema(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _options_of(OPTIONS[name], definitions)
    weight = _referred(TypeAdapter(NumberOrRamp).json_schema(), definitions)
    weight |= {"description": "of the loss: a number, or a ramp over the stage", "default": 1.0}
    schema["properties"] |= {
        "weight": weight,
        "kind": {"enum": [*OPTIONS], "description": "the objective, where the name is another"},
    }
    return schema


def _policy_schema(definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _options_of(PolicyOptions, definitions)
    for options in RULE_OPTIONS.values():
        schema["properties"] |= _options_of(options, definitions)["properties"]
    schema["properties"]["kind"] = {"enum": [*KINDS]}
    return {**schema, "required": ["kind"]}


def options_schema(options: type) -> dict[str, Any]:
    """The schema of a part of a recipe or of a dataclass of options, with its definitions."""
    definitions: dict[str, Any] = {}
    return {**_options_of(options, definitions), "$defs": definitions}


def _options_of(options: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a dataclass of options, described by its docstring."""
    schema = _referred(TypeAdapter(options).json_schema(), definitions)
    said = inspect.getdoc(options) or ""
    _, _, attributes = said.partition("Attributes:\n")
    about = {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(attributes)}
    properties = {
        name: {**field, **({"description": about[name]} if name in about else {})}
        for name, field in schema.get("properties", {}).items()
    }
    required = {"required": schema["required"]} if "required" in schema else {}
    return {
        "type": "object",
        "description": said.partition("\n")[0],
        "properties": properties,
        **required,
        "additionalProperties": False,
    }


def _referred(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema whose own definitions have joined the others."""
    definitions |= {
        name: definition
        for name, definition in schema.pop("$defs", {}).items()
        if name not in definitions
    }
    return schema
