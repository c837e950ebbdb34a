"""Rows of any file, folder or hub dataset as examples, by a description of where they are."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.row_files import StoredRows, are_rows, ending_of_rows, stored_rows
from ..data.rows import Location, RowSource
from ..errors import DataError
from .held_out_rows import hold_out
from .task_rows import example_of
from .tasks import Example

HELD_OUT = 0.1  # of the training rows, where no rows to be scored are named
_OF_TEXT = (".csv", ".tsv", ".txt")  # files in which a number is text
_NAMED = 6  # labels, in notes


@dataclass(frozen=True)
class MappedRows:
    """The rows of a task.

    Attributes:
        train: Rows to learn from.
        test: Rows that are scored.
        test_split: The split that those are.
        notes: What was decided because the description does not say it.
    """

    train: list[Example]
    test: list[Example]
    test_split: str
    notes: tuple[str, ...]


def source_of(location: Location) -> RowSource | None:
    """The description of a location; None where it is DIR/NAME of task files.

    A string that is a file of rows, a folder, or DIR/NAME of files of another format stands for
    the description that has nothing but it, unless DIR/NAME.train.jsonl is there.
    """
    if isinstance(location, RowSource):
        return location
    return RowSource(location) if ">" not in location and are_rows(location) else None


def read_mapped_rows(source: RowSource, test_split: str | None) -> MappedRows:
    """The training rows and the scored rows of a task.

    Args:
        source: Describes them. Where there are neither dev nor test rows, a tenth of the training
            rows is held out as ``dev``.
        test_split: Which split is scored; by default dev, else test.

    Raises:
        DataError: There is no such split, or a row is refused.
    """
    stored = stored_rows(source)
    notes = []
    if test_split is None:
        test_split = "test" if "test" in stored.names and "dev" not in stored.names else "dev"
    by_default = test_split == "dev" and "dev" not in stored.names
    if by_default:
        stored = replace(stored, fractions={**stored.fractions, "dev": HELD_OUT})
    parts = _parts(stored, labelled=True)
    train = parts["train"]
    test = parts.get(test_split) or _read(stored, test_split, labelled=True)
    if by_default:
        notes.append(
            f"{source.path} names no rows to be scored, so {len(test)} of its"
            f" {len(train) + len(test)} training rows are held out; choose others as split:"
            " {dev: 0.2} or split: {dev: FILE}"
        )
    notes += _number_notes(source, stored, train)
    return MappedRows(train, test, test_split, tuple(notes))


def read_unlabelled(source: RowSource, split: str) -> list[Example]:
    """The rows of a split, whether they have labels or not.

    Raises:
        DataError: There is no such split, or a row is refused.
    """
    stored = stored_rows(source)
    parts = _parts(stored, labelled=False) if stored.fractions else {}
    return parts.get(split) or _read(stored, split, labelled=False)


def _parts(stored: StoredRows, *, labelled: bool) -> dict[str, list[Example]]:
    """The training rows, and the splits that are held out of them."""
    rows = _read(stored, "train", labelled=labelled)
    if not stored.fractions:
        return {"train": rows}
    return hold_out(rows, stored.fractions, stored.source.path)


def _read(stored: StoredRows, split: str, *, labelled: bool) -> list[Example]:
    rows = [
        example_of(row.values, row.place, columns=row.columns, labelled=labelled)
        for row in stored.read(split, labelled=labelled)
    ]
    if not rows:
        raise DataError(f"{stored.source.path} has no rows in its split {split!r}; give some")
    return rows


def _number_notes(source: RowSource, stored: StoredRows, rows: list[Example]) -> Iterator[str]:
    """That classes of a file of text are numbers, and could have been meant as such."""
    files = [part for part in stored.splits["train"] if isinstance(part, Path)]
    of_text = any(ending_of_rows(file).removesuffix(".gz") in _OF_TEXT for file in files)
    if source.problem_type or not of_text:
        return
    labels = sorted({row.label for row in rows if isinstance(row.label, str)})
    if labels and all(map(is_number, labels)):
        shown = ", ".join(labels[:_NAMED]) + (", ..." if len(labels) > _NAMED else "")
        yield (
            f"the {len(labels)} labels of {source.path} are numbers ({shown}) and are read as"
            " classes; say problem_type: regression if they are amounts, or problem_type:"
            " classification"
        )


def is_number(label: str) -> bool:
    """Whether a label reads as an amount."""
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False
