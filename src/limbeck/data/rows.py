"""Rows as people have them: where they are stored, and which of their columns is what.

A description names a file, a folder or a dataset on the hub, and maps the fields of tasks (text,
label, ...) to columns of any name.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic.dataclasses import dataclass

from ..errors import DataError, nearest
from .label_names import LabelNames, source_error

FIELDS = ("text", "text_pair", "label", "tokens", "tags")


def _as_split(value: Any) -> Any:
    """A name alone is the split to learn from."""
    value = {"train": value} if isinstance(value, str) else value
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise source_error(f"is {value!r:.60}; give a mapping, as {{dev: 0.1}} or {{dev: dev.csv}}")
    for name, part in value.items():
        if isinstance(part, str) and part.strip():
            continue
        if not isinstance(part, (int, float)) or not 0 < part < 1:
            raise source_error(
                f"says {name}: {part!r:.60}; give a fraction of the training rows between 0 and 1,"
                " or the name of a file or split"
            )
        if name == "train":
            raise source_error("takes a fraction for train; give fractions for the other splits")
    if (total := sum(part for part in value.values() if not isinstance(part, str))) >= 1:
        raise source_error(f"takes {total:g} of the training rows, so none is left; take less")
    return value


Column = Annotated[str | None, Field(min_length=1)]
_Name = Annotated[str, Field(min_length=1)]
_LabelColumns = Annotated[
    _Name | Annotated[tuple[_Name, ...], Field(min_length=1)] | None,
    WithJsonSchema({"type": ["string", "array", "null"], "items": {"type": "string"}}),
]
Split = Annotated[
    Mapping[str, str | float],
    BeforeValidator(_as_split),
    WithJsonSchema(
        {"type": ["object", "string"], "additionalProperties": {"type": ["string", "number"]}}
    ),
]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class StoredSource:
    """Where rows are stored.

    Attributes:
        path: A file (jsonl, json, csv, tsv, txt, each also .gz, or parquet); a folder of such files
            that are named after their splits (train.csv), or DIR/NAME of them (NAME.train.csv); a
            folder that `save_to_disk` of `datasets` has written; or a dataset on the hub.
        name: The configuration of a hub dataset.
        split: Of each split, the file or hub split that it is; a name alone is the split to learn
            from.
    """

    path: str = Field(min_length=1, description="file, folder, or name of a hub dataset")
    name: str | None = Field(default=None, description="configuration of a hub dataset")
    split: Split = Field(
        default_factory=dict,
        description="split -> a file or hub split, or a fraction of the training rows, as dev: 0.1",
    )

    def __post_init__(self) -> None:
        pairs = [pair for pair in self.columns.items() if pair[1]]
        pairs += [("label", column) for column in self.label_columns]
        named = [column for _, column in pairs]
        if twice := next((column for column in named if named.count(column) > 1), None):
            fields = " and ".join(f for f, column in pairs if column == twice)
            raise source_error(f"{fields} name the same column {twice!r}; give each its own")

    def __hash__(self) -> int:
        return hash((type(self), self.path, self.name))

    @property
    def columns(self) -> dict[str, str | None]:
        """The column that is named for each field."""
        return {}

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns that say of one label each whether it holds."""
        return ()

    @property
    def given_name(self) -> str | None:
        """What the user calls the rows in results, if anything."""
        return None


_NAME = r"^[\w+.-]*\w[\w+.-]*$"


def _names_a_file(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_NAME, value):
        raise source_error(f"is {value!r:.60}; it names files: give letters, digits and + . - _")
    return value


TaskName = Annotated[Annotated[str, Field(pattern=_NAME)] | None, BeforeValidator(_names_a_file)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RowSource(StoredSource):
    """Where the rows of a task are stored, and which of their columns is what.

    A field whose column is not named is read from the column of its own name, if there is one.

    Attributes:
        path: As of `StoredSource`.
        name: The configuration of a hub dataset.
        text: The column of the text.
        text_pair: The column of the second text of pairs.
        label: The column of the label, or of lists of all labels that hold; or several columns,
            each called as its label and with 1 where that holds and 0 where it does not.
        tokens: The column of lists of words.
        tags: The column of lists of IOB2 tags.
        split: Of each split, the file or hub split that it is, or the fraction of the training
            rows that is held out for it; a name alone is the split to learn from.
        label_separator: What stands between the labels of a row whose label is a text of all that
            hold, as in ``joy, love``; no text, no label.
        labels: Names of labels that are numbers, as a list (of 0, 1 ...) or a mapping; of tags,
            where there are no labels.
        problem_type: Whether labels are classes or numbers; by default, numbers are numbers and
            what a csv, tsv or txt file holds are classes.
        task_name: In results; by default as the file, folder or dataset is called.
    """

    text: Column = Field(default=None, description="column of the text; `text` by default")
    text_pair: Column = Field(default=None, description="column of the second text of pairs")
    label: _LabelColumns = Field(
        default=None,
        description="column of the label (`label` by default), or one column for each label",
    )
    tokens: Column = Field(default=None, description="column of lists of words")
    tags: Column = Field(default=None, description="column of lists of IOB2 tags")
    label_separator: str | None = Field(
        default=None,
        min_length=1,
        description="between the labels of a row, where one text has all that hold: joy, love",
    )
    labels: LabelNames = Field(
        default_factory=dict, description="names of labels that are numbers, as {0: bad, 1: good}"
    )
    problem_type: Literal["classification", "regression"] | None = Field(
        default=None, description="whether labels are classes or numbers"
    )
    task_name: TaskName = Field(
        default=None, description="in results; as the file is called by default"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels and self.problem_type == "regression":
            raise source_error("labels are names of classes, and problem_type is regression")
        if self.label_separator and self.problem_type:
            raise source_error(
                f"label_separator gives a row several labels, and problem_type is"
                f" {self.problem_type}; leave one of them out"
            )
        others = [f for f in ("labels", "problem_type", "label_separator") if getattr(self, f)]
        if self.label_columns and others:
            raise source_error(
                "label names a column for each label, which is called as its column; leave"
                f" {others[0]} out"
            )

    def __hash__(self) -> int:
        return hash((self.path, self.name, self.task_name))

    @property
    def columns(self) -> dict[str, str | None]:
        """The column that is named for each field."""
        found = {field: getattr(self, field) for field in FIELDS}
        return found | {"label": None} if self.label_columns else found

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns that say of one label each whether it holds."""
        return self.label if isinstance(self.label, tuple) else ()

    @property
    def given_name(self) -> str | None:
        """What the user calls the rows in results, if anything."""
        return self.task_name


_Source = TypeVar("_Source", bound=StoredSource)
# A string is a file, a folder, or DIR/NAME of files of JSON lines.
Location = str | RowSource


def path_of(location: str | StoredSource) -> str:
    """Where rows or prompts are, as the user wrote it."""
    return location if isinstance(location, str) else location.path


def parse_location(value: Any) -> Location:
    """A location as it was written: a path, or a mapping as YAML or Python has it.

    >>> parse_location("{path: reviews.csv, text: body, split: {dev: 0.1}}").split
    {'dev': 0.1}

    Raises:
        DataError: It is neither; or a key or value of the mapping is wrong, with every problem.
    """
    return parse_source(value, RowSource, "{path: reviews.csv, text: body, label: stars}")


def parse_source(value: Any, kind: type[_Source], example: str) -> str | _Source:
    """A path, or a description of a kind, as it was written.

    Args:
        value: A path, a description, or a mapping as YAML or Python has it.
        kind: Of the description.
        example: Of a mapping, for messages.

    Raises:
        DataError: As `parse_location`.
    """
    if isinstance(value, kind):
        return value
    value = path_or_mapping(value, example)
    if isinstance(value, str):
        return value
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise DataError("; ".join(_problems(error, kind))) from error


def path_or_mapping(value: Any, example: str) -> str | Mapping[Any, Any]:
    """A path, or the mapping that a value is or holds as YAML.

    Args:
        value: As of `parse_source`.
        example: Of a mapping, for messages.

    Raises:
        DataError: It is neither.
    """
    value = str(value) if isinstance(value, PurePath) else value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            said = " ".join(str(error).split())
            raise DataError(f"{value:.200} is not YAML ({said:.200}); write {example}") from error
    if not isinstance(value, (str, Mapping)):
        raise DataError(
            f"{value!r:.100} says no place of rows; give a path, or a mapping as {example}"
        )
    return value


def _problems(error: ValidationError, kind: type[StoredSource]) -> Iterator[str]:
    known = [*kind.__dataclass_fields__]
    for item in error.errors():
        place = ".".join(map(str, item["loc"]))
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            yield f"unknown key {place!r}{nearest(place, known)}"
        elif item["type"].startswith("missing"):
            yield f"{place} is missing; give the file, folder or hub dataset of the rows"
        elif item["type"] == "row_source":
            yield f"{place} {item['msg']}".strip()
        else:
            yield f"{place}: {item['msg']} (given: {item['input']!r:.60})"


def _as_location(value: Any) -> Location:
    try:
        return parse_location(value)
    except DataError as error:
        raise source_error(str(error)) from error


# A location as a field of a recipe: a mapping, or a string, which may hold such a mapping.
LocationField = Annotated[Location, BeforeValidator(_as_location)]
