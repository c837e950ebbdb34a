"""The rows that others are made of, and the scored rows that must not be among them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..data.json_lines import ENDINGS, task_places
from ..data.row_files import stored_rows
from ..data.rows import Location, RowSource, parse_location
from ..errors import DataError
from ..evaluation.leaks import without_scored
from ..evaluation.mapped_rows import HELD_OUT, source_of
from ..evaluation.task_files import load_rows, name_of_task
from ..evaluation.tasks import Example
from ..system.files import check_can_be_made
from .row_texts import PAIRS, WORD_LISTS, form_of


@dataclass(frozen=True)
class SourceRows:
    """The rows of some locations.

    Attributes:
        rows: Training rows.
        scored: All rows of other splits.
        left_out: How many training rows have the normalised text of a scored row, and are left out.
        notes: What was read, in sentences.
    """

    rows: Sequence[Example]
    scored: Sequence[Example]
    left_out: int
    notes: tuple[str, ...]


def read_source_rows(
    locations: Sequence[Any],
    scored: Sequence[Any] = (),
    *,
    predict: Literal["label", "tags"] | None = None,
) -> SourceRows:
    """The training rows of all locations, and every row of their other splits.

    Rows with labels and without a split that is scored have a tenth held out, as a recipe that
    names them as its task holds it out.

    Args:
        locations: As of `load_task`, or rows without labels.
        scored: Tasks whose scored rows must not be made either, or files of such rows.
        predict: As of `AugmentSettings`.

    Raises:
        DataError: There are no rows, they are prompts, or cannot be read.
    """
    train: list[Example] = []
    kept_out: list[Example] = []
    notes = []
    for location in map(parse_location, locations):
        rows, others = _read(location)
        train += rows
        kept_out += [row for some in others.values() for row in some]
        notes.append(_note(location, len(rows), others))
    for location in map(parse_location, scored):
        others = _scored_alone(location)
        kept_out += [row for some in others.values() for row in some]
        notes.append(_note(location, None, others))
    if not train:
        raise DataError("no rows are named; give a task, or files of rows")
    notes += _form_notes(train, predict)
    kept_out = [form for row in kept_out for form in _forms(row)]
    rows, left_out = without_scored([_for(row, predict) for row in train], kept_out)
    if not rows:
        raise DataError(
            f"all {len(train)} training rows are scored rows too, by normalised text; give others"
        )
    return SourceRows(rows, kept_out, left_out, tuple(notes))


def _forms(row: Example) -> list[Example]:
    """A row by its text and by its words, where it has both."""
    if row.words is None or not (row.text or "").strip():
        return [row]
    return [replace(row, words=None), replace(row, text=None)]


def _for(row: Example, predict: Literal["label", "tags"] | None) -> Example:
    """A row by its text alone, as classifiers read it, or by its words, as taggers do."""
    by_words = row.label is None and row.tags is not None if predict is None else predict == "tags"
    return _forms(row)[-1 if by_words else 0]


def _form_notes(rows: Sequence[Example], predict: Literal["label", "tags"] | None) -> list[str]:
    """What is read of rows that have a text and words."""
    both = [row for row in rows if len(_forms(row)) > 1]
    texts = sum(_for(row, predict).words is None for row in both)
    said = f"of {len(both):,} rows that have a text and words, {texts:,} are read as texts, for a"
    said += f" label, and {len(both) - texts:,} as words, for tags"
    return [f"{said}; --predict label or --predict tags decides it for all"] if both else []


def check_forms(rows: Sequence[Example], *, of_rows: bool, into_pairs: bool) -> None:
    """See that rows of these forms can be made into others.

    Args:
        rows: To make others of.
        of_rows: Whether a row gives rows of its own form.
        into_pairs: Whether texts are paired.

    Raises:
        DataError: Rows of several forms would give rows of several forms, or there are lists of
            words to pair.
    """
    forms = {form_of(row): row.place for row in reversed(rows)}
    if of_rows and len(forms) > 1:
        said = " and ".join(f"{form} ({place})" for form, place in sorted(forms.items()))
        raise DataError(f"the rows are of several forms: {said}; augment those of each form alone")
    if into_pairs and (place := forms.get(WORD_LISTS)):
        raise DataError(f"{WORD_LISTS} ({place}) cannot be paired; give texts, or pairs of texts")
    if into_pairs and of_rows and PAIRS not in forms:
        raise DataError(
            "the rows are texts, of which --masked and --spans make texts, and --neighbors and"
            " --edits pairs; use the two kinds one after the other, with a file for each"
        )


def check_output(file: Path, locations: Sequence[Any]) -> None:
    """See that rows can be written to a file, and that it will be no split of a task.

    Raises:
        DataError: It is there already, has another ending than .jsonl, or would be read as a split
            of one of the locations.
        PermissionError: Its folder must not be written to.
    """
    if file.suffix != ".jsonl" or file.name == ".jsonl":
        raise DataError(f"{file} is to hold JSON lines; give a name that ends in .jsonl")
    if file.exists() or file.is_symlink():
        raise DataError(f"{file} is there already; give another name, or remove it")
    parents = file.absolute().parents
    if blocked := next((p for p in parents if p.exists() and not p.is_dir()), None):
        raise DataError(f"{file} cannot be written, because {blocked} is a file; give a folder")
    check_can_be_made(file)
    for location in map(parse_location, locations):
        if place := _read_together(file.absolute(), location):
            raise DataError(
                f"{file} would be read as a split of {place}; give another folder, or a name as"
                f" {Path(place).name}-augmented.jsonl beside it"
            )


def _read_together(file: Path, location: Location) -> str | None:
    """The folder, or DIR/NAME of files, whose rows the file would be among; None without one."""
    places = [location.path] if isinstance(location, RowSource) else task_places(location)
    for name in map(str, places):
        place = Path(name).absolute()
        if place.is_dir() and place.resolve() in file.resolve().parents:
            return name
        split = file.name.removesuffix(".jsonl").removeprefix(f"{place.name}.")
        beside = file.name.startswith(f"{place.name}.") and place.parent == file.parent
        if beside and "." not in split and not place.is_file():
            return name
    return None


def _read(location: Location) -> tuple[list[Example], dict[str, list[Example]]]:
    """The training rows of a location, and those of every other split."""
    if (source := source_of(location)) is None:
        place, scored = task_places(str(location))
        rows = load_rows(str(place))
        others = {
            split if one == place else f"{split} of {one.name}": load_rows(str(one), split=split)
            for one in dict.fromkeys([place, scored])
            for split in _splits_of_files(one)
        }
        return rows, others
    rows, names = load_rows(source), list(_splits_of(source))
    if not {"dev", "test"} & {*names} and any(_labelled(row) for row in rows):
        source = replace(source, split={**source.split, "dev": HELD_OUT})
        rows, names = load_rows(source), [*names, "dev"]
    return rows, {name: load_rows(source, split=name) for name in names}


def _scored_alone(location: Location) -> dict[str, list[Example]]:
    """The scored rows of a task, or all rows of a file."""
    source = source_of(location)
    if source is not None and not source.split and Path(source.path).is_file():
        return {"all rows": load_rows(source)}
    if others := _read(location)[1]:
        return others
    raise DataError(
        f"{name_of_task(location)} has no split that is scored, as dev or test; name a task that"
        " has one, or a file of the scored rows"
    )


def _splits_of(source: RowSource) -> Iterator[str]:
    """Every split but that of the training rows, each once, whatever names it has."""
    stored = stored_rows(source)
    seen = [stored.splits.get("train")]
    # By its usual name where it has two.
    for name in sorted(stored.splits, key=lambda name: name != "dev"):
        if stored.splits[name] not in seen:
            seen.append(stored.splits[name])
            yield name
    yield from stored.fractions


def _splits_of_files(place: Path) -> Iterator[str]:
    """The splits of DIR/NAME but that of the training rows."""
    found = set()
    for file in place.parent.glob("*.jsonl*"):
        ending = next((end for end in ENDINGS if file.name.endswith(end)), None)
        if ending and file.name.startswith(f"{place.name}."):
            found.add(file.name.removesuffix(ending).removeprefix(f"{place.name}."))
    # NAME.more.train.jsonl belongs to a task of its own.
    yield from sorted(split for split in found if "." not in split and split != "train")


def _labelled(row: Example) -> bool:
    return row.label is not None or row.tags is not None


def _note(location: Location, rows: int | None, others: dict[str, list[Example]]) -> str:
    """What was read of a location."""
    learned = "" if rows is None else f"{rows:,} training rows; "
    splits = ", ".join(f"{name} {len(some):,}" for name, some in others.items())
    kept_out = f"none of the scored rows is made: {splits}" if splits else "it has no scored rows"
    return f"{name_of_task(location)}: {learned}{kept_out}"
