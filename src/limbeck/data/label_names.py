"""Names of labels that are numbers or truth values, as YAML and tables have them."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError


def _as_names(value: Any) -> Any:
    """Names of labels by the label as text; a list names 0, 1, 2 ..."""
    if value is None:
        return {}
    pairs = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(pairs, Mapping):
        raise source_error(
            f"is {value!r:.60}; give a list of names, or a mapping of labels to names"
        )
    return names_of_labels(pairs)


def names_of_labels(pairs: Mapping[Any, Any]) -> dict[str, str]:
    """Names of labels by the label as text, as YAML has them: numbers stand for themselves."""
    for name in pairs.values():
        if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
            hint = "; put no, yes, on and off in quotes" if isinstance(name, bool) else ""
            raise source_error(f"has the name {name!r:.60}; give a text{hint}")
    return {as_text(label): str(name) for label, name in pairs.items()}


def source_error(message: str) -> PydanticCustomError:
    """What is wrong with a description, for pydantic to report with its field."""
    return PydanticCustomError("row_source", "{message}", {"message": message})


def as_text(label: Any) -> str:
    """A label as the text that names it.

    >>> as_text(True), as_text(1.0), as_text(1.5), as_text(" good ")
    ('true', '1', '1.5', 'good')
    """
    if isinstance(label, bool):
        return str(label).lower()
    whole = isinstance(label, float) and label.is_integer()
    return str(int(label) if whole else label).strip()


LabelNames = Annotated[
    Mapping[str, str],
    BeforeValidator(_as_names),
    WithJsonSchema(
        {
            "type": ["object", "array"],
            "additionalProperties": {"type": ["string", "number"]},
            "items": {"type": ["string", "number"]},
        }
    ),
]
