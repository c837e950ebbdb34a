"""Rows of any table by the names of the fields that tasks have, with named labels."""

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import DataError
from .label_names import as_text
from .rows import RowSource, StoredSource
from .tables import Rows, Table

_OF_PROMPTS = ("prompt", "references", "document")  # of generation tasks, under these names only
_WHOLE = re.compile(r"-?[0-9]+[.]0+")  # as pandas writes whole numbers beside missing ones
_HOLDS = {"1": 1, "true": 1, "0": 0, "false": 0, "-1": -1}  # of a column of one label
_NO_LABEL = -1  # what `datasets` writes where a class label is hidden
_ITEM = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?[0-9]+[.]?[0-9]*"""
_ITEMS = re.compile(rf"\[\s*(?:{_ITEM})(?:(?:\s*,\s*|\s+)(?:{_ITEM}))*\s*\]")  # also of numpy


class Row(NamedTuple):
    """A row by the names of the fields.

    Attributes:
        values: Of the fields that the row has.
        place: For messages.
        columns: What the row has, as it is called there.
    """

    values: dict[str, Any]
    place: str
    columns: tuple[str, ...]


def rows_of_table(source: StoredSource, table: Table, *, labelled: bool = True) -> Iterator[Row]:
    """The rows of a table, by the names of the fields.

    Args:
        source: Describes them.
        table: Has them.
        labelled: False leaves labels as they are that cannot be as the description says.

    Raises:
        DataError: A named column is missing, or a label has no name.
    """
    if not table.columns:
        return
    columns = _columns_of(source, table.columns, table.name)
    names = (
        _names_of_fields(source, columns, table.class_names)
        if isinstance(source, RowSource)
        else {}
    )
    for row, place in table.read([*columns.values(), *source.label_columns]):
        values = _values_of(source, row, columns, place, labelled=labelled)
        if isinstance(source, RowSource):
            values = _with_classes(values, source, names, place, labelled=labelled)
        yield Row(values, place, table.columns)


def rows_of_objects(source: StoredSource, objects: Rows, *, labelled: bool = True) -> Iterator[Row]:
    """Rows that each have columns of their own, by the names of the fields.

    Args:
        source: Describes them.
        objects: Has them.
        labelled: As of `rows_of_table`.

    Raises:
        DataError: A row has not all named columns, or a label has no name.
    """
    for row, place in objects:
        columns = _columns_of(source, tuple(row), place)
        values = _values_of(source, row, columns, place, labelled=labelled)
        if isinstance(source, RowSource):
            names = _names_of_fields(source, columns, {})
            values = _with_classes(values, source, names, place, labelled=labelled)
        yield Row(values, place, tuple(row))


def _columns_of(source: StoredSource, known: tuple[str, ...], where: str) -> dict[str, str]:
    """The column of every field that is there."""
    found = {}
    # A table of classes may have a column of one of these names too.
    named = [*source.columns.items(), *(("label", column) for column in source.label_columns)]
    if not any(column for _, column in named) and {"prompt", "references"} <= {*known}:
        if "meeting" in known:
            raise DataError(
                f"{where} names its document as a meeting, which only DIR/NAME of task files reads;"
                " give that, or put the document into the row"
            )
        if isinstance(source, RowSource):
            found = {field: field for field in _OF_PROMPTS if field in known}
    for field, column in named:
        if column is not None and column not in known:
            raise DataError(
                f"{where}: the column {column!r} for `{field}` is not there; columns are"
                f" {', '.join(map(str, known)) or 'none'}"
            )
        if column is not None or field in known:
            found[field] = column or field
    if source.label_columns:
        found.pop("label", None)
    return found


def _values_of(
    source: StoredSource,
    row: Mapping[str, Any],
    columns: Mapping[str, str],
    place: str,
    *,
    labelled: bool,
) -> dict[str, Any]:
    """The values of a row by field."""
    values = {field: row[column] for field, column in columns.items()}
    if not source.label_columns:
        return values
    try:
        return {**values, "label": _held(row, source.label_columns, place)}
    except DataError:
        if labelled:
            raise
        return values


def _held(row: Mapping[str, Any], columns: Sequence[str], place: str) -> list[str] | None:
    """The labels whose columns say that they hold; None where all say that it is not known."""
    said = {column: _HOLDS.get(_otherwise_spelled(row[column])) for column in columns}
    if all(one == _NO_LABEL for one in said.values()):
        return None
    for column, one in said.items():
        if one not in (0, 1):
            raise DataError(
                f"{place}: the column {column!r} of a label has {row[column]!r:.60}; give 1 where"
                " the label holds, and 0 where it does not"
            )
    return [column for column, one in said.items() if one]


def _names_of_fields(
    source: RowSource, columns: Mapping[str, str], class_names: Mapping[str, tuple[str, ...]]
) -> dict[str, dict[str, str]]:
    """Of labels and tags, the name of each integer as text, where they have names."""
    if source.problem_type == "regression":
        return {}
    found = {
        field: {str(number): name for number, name in enumerate(class_names[columns[field]])}
        | {str(_NO_LABEL): ""}
        for field in ("label", "tags")
        if field in columns and columns[field] in class_names
    }
    if source.labels:
        found["label" if "label" in columns else "tags"] = dict(source.labels)
    return found


def _with_classes(
    values: dict[str, Any],
    source: RowSource,
    names: Mapping[str, dict[str, str]],
    place: str,
    *,
    labelled: bool,
) -> dict[str, Any]:
    """A row whose label and tags are as the description says: names, classes or numbers."""
    if source.label_columns:
        return values
    label, tags = values.get("label"), values.get("tags")
    if source.label_separator and isinstance(label, (str, int, float)):
        parts = as_text(label).split(source.label_separator)
        label = values["label"] = [part.strip() for part in parts if part.strip()]
    if isinstance(label, str) and (held := _listed(label)) is not None:
        label = values["label"] = held
    if isinstance(label, str) and not label.strip():
        label = values["label"] = None  # a table has no other way to leave a field out
    try:
        if label is not None:
            values["label"] = _as_described(label, source, names.get("label"), place)
        if isinstance(tags, list) and "tags" in names:
            values["tags"] = [_name_of(tag, names["tags"], place) for tag in tags]
    except DataError:
        if labelled:
            raise
    return values


def _listed(label: str) -> list[Any] | None:
    """The list that a label spells, as pandas writes lists into a csv file; None of other texts.

    Lists, tuples, sets and arrays of numpy are written in a way of their own each.

    >>> _listed("['joy', 'love']"), _listed("[]"), _listed("[music]")
    (['joy', 'love'], [], None)
    >>> _listed("['joy' 'love']"), _listed("[ 3 10]"), _listed("('joy',)"), _listed("{'joy'}")
    (['joy', 'love'], [3, 10], ['joy'], ['joy'])
    """
    if label[:1] not in ("[", "(", "{") and label != "set()":
        return None
    if _ITEMS.fullmatch(label):  # without commas Python would join texts to one
        label = f"[{', '.join(re.findall(_ITEM, label))}]"
    try:
        found = ast.literal_eval(label)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return [*found] if isinstance(found, (list, tuple, set)) else None


def _as_described(
    label: Any, source: RowSource, names: Mapping[str, str] | None, place: str
) -> Any:
    if isinstance(label, float) and not math.isfinite(label):
        raise DataError(
            f"{place}: the label is {label}, as where a value is missing; give one, or leave the"
            " row out"
        )
    if isinstance(label, list) and source.problem_type == "regression":
        raise DataError(
            f"{place}: the label {label!r:.60} is a list, and problem_type is regression; give one"
            " number, or leave problem_type out"
        )
    if names and isinstance(label, list):
        return [_name_of(one, names, place) for one in label]
    if names:
        return _name_of(label, names, place) or None
    if source.problem_type == "classification" and isinstance(label, (bool, int, float)):
        return as_text(label)
    if source.problem_type == "regression" and isinstance(label, str):
        try:
            return float(label)
        except ValueError as error:
            raise DataError(
                f"{place}: the label {label!r:.60} is no number, and problem_type is regression;"
                " correct it, or leave problem_type out to make labels classes"
            ) from error
    if isinstance(label, bool):
        raise DataError(
            f"{place}: the label is a truth value; name both, as labels: {{false: 'no', true:"
            " 'yes'}"
        )
    return label


def _name_of(label: Any, names: Mapping[str, str], place: str) -> str:
    if (name := names.get(as_text(label))) is not None:
        return name
    if isinstance(label, str) and label in names.values():
        return label
    if (name := names.get(_otherwise_spelled(label))) is not None:
        return name
    known = ", ".join(key for key, name in names.items() if name)
    raise DataError(
        f"{place}: {label!r:.60} has no name; names are there for {known:.200}. Add it to `labels`"
    )


def _otherwise_spelled(label: Any) -> str:
    """A truth value or whole number that a table has as text, as YAML spells it: true, 1."""
    text = as_text(label)
    if text in ("True", "TRUE", "False", "FALSE"):
        return text.lower()
    return text.partition(".")[0] if _WHOLE.fullmatch(text) else text
