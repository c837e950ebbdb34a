"""The options of a part of a recipe as a table, made of what checks them."""

from collections.abc import Sequence
from typing import Any

from ..reports.tables import Table
from .json_schema import options_schema

_KINDS = {"integer": "whole number", "number": "number", "string": "text", "array": "list"}
_KINDS |= {"object": "mapping"}


def options_table(kind: type, only: Sequence[str] = (), *, prefix: str = "") -> Table:
    """Name, values, default and description of every option; the first row names the columns.

    Args:
        kind: A part of a recipe, or a dataclass of options whose docstring describes them.
        only: The options that are shown; empty for all.
        prefix: Put before the name of each.
    """
    schema = options_schema(kind)
    required = schema.get("required", [])
    rows = [["option", "values", "default", "description"]]
    for name, field in schema["properties"].items():
        if only and name not in only:
            continue
        default = "" if name in required else _shown(field.get("default"))
        about = field.get("description", "").replace("``", "")
        rows.append([f"{prefix}{name}", _values(field, schema["$defs"]), default, about])
    return rows


def _values(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What an option may be, as a few words.

    >>> _values({"anyOf": [{"enum": ["top", "last"]}, {"type": "integer"}, {"type": "null"}]}, {})
    'top, last, whole number'
    """
    if "anyOf" in field:
        found = [_values(form, definitions) for form in field["anyOf"]]
        return ", ".join(dict.fromkeys(filter(None, found)))
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        definition = definitions[name]
        return _values(definition, definitions) if "enum" in definition else name.lower()
    if "enum" in field:
        return ", ".join(map(_shown, field["enum"]))
    if "const" in field:
        return _shown(field["const"])
    if field.get("type") == "boolean":
        return "true, false"
    return _KINDS.get(field.get("type", ""), "")


def _shown(value: Any) -> str:
    """A value as a recipe has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)
