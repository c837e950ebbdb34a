"""Where the rows of a description are stored: its splits, as files or as tables."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..system.fingerprints import content_of
from .hub_tables import SAVED_BY_DATASETS, hub_tables, saved_tables
from .json_lines import has_split, read_array, read_rows
from .lines import read_texts
from .row_fields import Row, rows_of_objects, rows_of_table
from .rows import StoredSource
from .tables import Table, csv_table, parquet_table

_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".txt")  # each also .gz
ENDINGS = (*_ENDINGS, *(f"{ending}.gz" for ending in _ENDINGS), ".parquet")
# What the split that models are scored on during development is called elsewhere.
_DEV = ("validation", "valid", "val", "dev")
_SPLITS = ("train", "test", *_DEV)
_SHARD = re.compile(r"-(\d+)-of-(\d+)$")
_OF_HUB = "data"  # where most datasets of the hub have their files
Part = Path | Table


@dataclass(frozen=True)
class StoredRows:
    """The rows of a description.

    Attributes:
        source: The description.
        splits: The files or tables of every split.
        fractions: Of every split that is held out of the training rows, how much of them.
    """

    source: StoredSource
    splits: Mapping[str, tuple[Part, ...]]
    fractions: Mapping[str, float]

    @property
    def names(self) -> list[str]:
        """Of all splits."""
        return [*self.splits, *self.fractions]

    def read(self, split: str, *, labelled: bool = True) -> Iterator[Row]:
        """The rows of a split that is stored.

        Args:
            split: Its name.
            labelled: False leaves labels as they are that cannot be as the description says.

        Raises:
            DataError: There is no such split; or a file cannot be read, or lacks a column.
        """
        if split not in self.splits:
            raise DataError(
                f"{self.source.path} has no split {split!r}; there are"
                f" {', '.join(self.names) or 'none'}. Name one of them, or say which rows it is:"
                f" split: {{{split}: ...}}"
            )
        for part in self.splits[split]:
            yield from _rows(self.source, part, labelled=labelled)


def stored_rows(source: StoredSource) -> StoredRows:
    """The splits of a description, not yet read.

    Raises:
        DataError: The path or a split is not there, or the hub cannot be reached.
    """
    found = _found(source)
    splits = dict(found)
    if "dev" not in splits and (name := next((n for n in _DEV if n in splits), None)):
        splits["dev"] = found[name]
    if Path(source.path).is_file() and source.split.get("train", "train") != "train":
        raise DataError(
            f"{source.path} is a file, whose rows are learned from, and split names others for"
            " train; leave split.train out, or give the folder as path"
        )
    fractions = {}
    for split, part in source.split.items():
        if isinstance(part, str):
            splits[split] = _named(source, part, found)
        else:
            fractions[split] = float(part)
            splits.pop(split, None)
    return StoredRows(source, splits, fractions)


def files_of_rows(source: StoredSource) -> list[Path]:
    """All files of a description; none of a dataset on the hub.

    Raises:
        DataError: As `stored_rows`.
    """
    place = Path(source.path)
    if not (place.exists() or has_files_of(place) or _must_be_local(source.path)):
        return []
    stored = stored_rows(source)
    files = {part for parts in stored.splits.values() for part in parts if isinstance(part, Path)}
    if not files:  # a folder of save_to_disk
        files = {file for file in place.rglob("*") if file.is_file()}
    return sorted(files)


def content_of_rows(source: StoredSource) -> str:
    """A hash of all files of a description; of a dataset on the hub, its name.

    Raises:
        DataError: As `stored_rows`.
    """
    files = files_of_rows(source)
    return content_of(*files) if files else name_of_rows(source)


def name_of_rows(source: StoredSource) -> str:
    """What results call the rows.

    >>> from limbeck.data.rows import RowSource
    >>> name_of_rows(RowSource("data/reviews.csv.gz"))
    'reviews'
    >>> name_of_rows(RowSource("nyu-mll/glue", name="sst2"))
    'glue_sst2'
    """
    if source.given_name:
        return source.given_name
    file = Path(source.path)
    stem = _stem(file).removesuffix(".train") if ending_of_rows(file) else file.resolve().name
    if stem in _SPLITS:  # data/reviews/train.csv
        stem = file.resolve().parent.name or stem
    return f"{stem}_{source.name}" if source.name else stem


def ending_of_rows(file: Path) -> str:
    """The known ending of a file of rows; empty where it is none."""
    return next((end for end in ENDINGS if file.name.endswith(end) and file.name != end), "")


def _stem(file: Path) -> str:
    return file.name.removesuffix(ending_of_rows(file))


def _rows(source: StoredSource, part: Part, *, labelled: bool) -> Iterator[Row]:
    if isinstance(part, Table):
        return rows_of_table(source, part, labelled=labelled)
    ending = ending_of_rows(part).removesuffix(".gz")
    if ending in (".jsonl", ".json"):
        read = read_rows if ending == ".jsonl" else read_array
        return rows_of_objects(source, read(part), labelled=labelled)
    if ending == ".txt":
        lines = ((line.strip(), number) for number, line in read_texts(part))
        texts = (({"text": text}, f"line {n} of {part}") for text, n in lines if text)
        return rows_of_objects(source, texts, labelled=labelled)
    if ending == ".parquet":
        return rows_of_table(source, parquet_table(part), labelled=labelled)
    table = csv_table(part, delimiter="\t" if ending == ".tsv" else ",")
    return rows_of_table(source, table, labelled=labelled)


def _found(source: StoredSource) -> dict[str, tuple[Part, ...]]:
    """The splits that are there, whatever the description calls them."""
    place = Path(source.path)
    try:
        is_file, is_folder = place.is_file(), place.is_dir()
    except (OSError, ValueError) as error:
        raise DataError(f"{source.path:.200} cannot be looked up: {error}") from error
    if (is_file or is_folder) and source.name:
        raise DataError(
            f"{source.path} is stored here, and name ({source.name!r}) is the configuration of a"
            " hub dataset; leave it out"
        )
    if is_file:
        if not ending_of_rows(place):
            raise DataError(f"{place} ends in none of {', '.join(ENDINGS)}; give one that does")
        return {"train": (place,)}
    if is_folder and any((place / name).is_file() for name in SAVED_BY_DATASETS):
        return {split: (table,) for split, table in saved_tables(place).items()}
    if is_folder:
        return _splits_of_folder(source, place)
    if has_files_of(place):
        return _splits_of_folder(source, place.parent, f"{place.name}.")
    if _must_be_local(source.path):
        beside = [p.name for p in place.parent.glob("*")] if place.parent.is_dir() else []
        near = difflib.get_close_matches(place.name, beside, n=1)
        hint = f"; did you mean {place.parent / near[0]}?" if near else ""
        raise DataError(f"{source.path} does not exist{hint}")
    return {split: (table,) for split, table in hub_tables(source.path, source.name).items()}


def _must_be_local(path: str) -> bool:
    """Whether a path that does not exist cannot be the name of a hub dataset either."""
    outside = path.startswith((".", "/", "~")) or path.count("/") > 1 or not path.strip()
    return outside or bool(ending_of_rows(Path(path))) or path.endswith(".gz")


def are_rows(location: str) -> bool:
    """Whether a path is a file of rows, a folder, or DIR/NAME of files of another format.

    DIR/NAME.train.jsonl is none of these: it is a file of a task, or of prompts.
    """
    place = Path(location)
    if has_split(place, "train"):
        return False
    here = bool(location.strip()) and (place.is_dir() or place.is_file())
    return here or bool(ending_of_rows(place)) or has_files_of(place)


def has_files_of(place: Path) -> bool:
    """Whether there are files as NAME.train.csv for DIR/NAME."""
    return bool(_files_in(place.parent, f"{place.name}.train"))


def _files_in(folder: Path, prefix: str) -> list[Path]:
    """The files of rows in a folder whose names begin so."""
    if not folder.is_dir():
        return []
    named = (file for file in folder.iterdir() if file.name.startswith(prefix))
    return sorted(file for file in named if ending_of_rows(file) and file.is_file())


def _splits_of_folder(
    source: StoredSource, folder: Path, prefix: str = ""
) -> dict[str, tuple[Part, ...]]:
    """The files of a folder by the splits that they are named after; a split may have shards."""
    files = _files_in(folder, prefix)
    if not (prefix or files) and (folder / _OF_HUB).is_dir():
        folder = folder / _OF_HUB
        files = _files_in(folder, prefix)
    found: dict[str, list[Path]] = {}
    for file in files:
        name = _SHARD.sub("", _stem(file).removeprefix(prefix))
        found.setdefault(name.lower() if name.lower() in _SPLITS else name, []).append(file)
    for split, several in found.items():
        shards = len(several) == 1 or all(_SHARD.search(_stem(file)) for file in several)
        if split in _SPLITS and not shards and split not in source.split:
            raise DataError(
                f"{folder} holds {' and '.join(file.name for file in several)}; say which one is"
                f" read: split: {{{split}: {several[0].name}}}"
            )
        _check_shards(folder, several)
    if "train" not in found and "train" not in source.split:
        there = f"{', '.join(file.name for file in files)}; name one: split: {{train: FILE}}"
        raise DataError(
            f"{folder} holds no file of training rows (train.csv, train.parquet, ...), but"
            f" {there if files else 'no file of rows; give the folder that has them, or a file'}"
        )
    return {split: tuple(several) for split, several in found.items()}


def _check_shards(folder: Path, files: Sequence[Path]) -> None:
    """Check that files that are numbered as `-00001-of-00003` are each there, and once.

    Raises:
        DataError: One is missing, or there are two sets of them.
    """
    numbers = [match.groups() for file in files if (match := _SHARD.search(_stem(file)))]
    counts = {int(count) for _, count in numbers}
    if len(counts) > 1 or len({int(number) for number, _ in numbers}) < len(numbers):
        raise DataError(
            f"{folder} holds {' and '.join(file.name for file in files)}, which are numbered twice;"
            " keep one set of them"
        )
    there = {int(number) for number, _ in numbers}
    for count in counts:
        first = 0 if 0 in there else 1  # some count from 1
        if missing := sorted(set(range(first, first + count)) - there):
            raise DataError(
                f"{folder} holds {len(files)} of {count} numbered files ({files[0].name}, ...):"
                f" number {missing[0]} is missing; copy it too"
            )


def _named(
    source: StoredSource, name: str, found: Mapping[str, tuple[Part, ...]]
) -> tuple[Part, ...]:
    """The split or file that a description names: beside its path, or from where one is."""
    if name in found:
        return found[name]
    place, beside = Path(source.path), []
    if place.exists() or has_files_of(place):
        folder = place if place.is_dir() else place.parent
        for file in (folder / name, Path(name)):
            if file.is_file() and ending_of_rows(file):
                return (file,)
        beside = sorted(file.name for file in folder.iterdir() if ending_of_rows(file))
    near = difflib.get_close_matches(name, [*found, *beside], n=1)
    known = ", ".join(dict.fromkeys([*found, *beside]))
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {known}"
    raise DataError(f"{source.path} has no split or file {name!r}{hint}")
