"""Datasets on the hub, and folders that `datasets` has saved, as tables."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, first_line
from .kept_rows import KeptRows
from .tables import Rows, Table, class_names

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

SAVED_BY_DATASETS = ("dataset_dict.json", "dataset_info.json")  # save_to_disk writes one of them


def hub_rows(name: str, split: str, configuration: str | None) -> Iterator[Mapping[str, Any]]:
    """The rows of a dataset on the hub, streamed.

    Args:
        name: Of the dataset.
        split: Which of its splits.
        configuration: Which of its configurations, where it has several.

    Raises:
        DataError: It cannot be reached or read.
    """
    import datasets

    try:
        found = datasets.load_dataset(name, configuration, split=split, streaming=True)
    except Exception as error:  # `datasets` passes on the errors of many readers
        raise _unreachable(name, 0, error) from error
    for row, _ in _dataset_rows(found, name):
        yield row


# Cached, because asking the hub takes seconds, and a plan names a dataset several times.
@lru_cache(maxsize=16)
def hub_tables(name: str, configuration: str | None) -> dict[str, Table]:
    """Every split of a dataset on the hub, streamed once its rows are read, and only once.

    Args:
        name: Of the dataset.
        configuration: Which of its configurations, where it has several.

    Raises:
        DataError: It cannot be reached or read, or has several configurations and none is named.
    """
    import datasets

    try:
        found = datasets.load_dataset(name, configuration, streaming=True)
        return {str(split): _kept(_dataset_table(some, name)) for split, some in found.items()}
    except Exception as error:  # `datasets` passes on the errors of many readers
        raise _unreachable(name, 0, error) from error


def saved_tables(folder: Path) -> dict[str, Table]:
    """Every split of a folder that `save_to_disk` of `datasets` has written.

    A dataset that has no splits is ``train``.

    Raises:
        DataError: A file of the folder is missing or broken.
    """
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # as above
        raise DataError(
            f"{folder} is no readable folder of save_to_disk: {first_line(error)}; save it again"
        ) from error
    splits = found if isinstance(found, datasets.DatasetDict) else {"train": found}
    return {str(split): _dataset_table(some, str(folder)) for split, some in splits.items()}


def _kept(table: Table) -> Table:
    """A table whose rows are streamed once for every choice of columns."""

    @cache
    def rows(columns: tuple[str, ...]) -> KeptRows:
        return KeptRows(lambda: table.read(columns))

    return replace(table, read=lambda columns: rows(tuple(columns)).read())


def _dataset_table(dataset: "Dataset | IterableDataset", name: str) -> Table:
    # Of some formats a streamed dataset knows no columns until a row is read.
    columns = dataset.column_names or [*next(iter(dataset), {})]
    return Table(
        name,
        tuple(columns),
        lambda columns: _dataset_rows(dataset.select_columns([*columns]), name),
        class_names(dataset.features or {}),
    )


def _dataset_rows(dataset: "Dataset | IterableDataset", name: str) -> Rows:
    number = 0
    try:
        for row in dataset.with_format(None):  # a saved one may give arrays of numpy or torch
            number += 1
            yield row, f"row {number} of {name}"
    except Exception as error:
        raise _unreachable(name, number, error) from error


def _unreachable(name: str, number: int, error: Exception) -> DataError:
    where = f" after row {number}" if number else ""
    return DataError(
        f"{name} cannot be read{where}: {first_line(error)}; give a local file if the hub cannot be"
        " reached"
    )
