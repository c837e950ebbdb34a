"""Rows that come over the network, read once: later readers get them from a temporary file."""

import json
import shutil
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from .tables import Rows


class KeptRows:
    """Rows of a stream that many read, as those who check a recipe, tokenize and measure do.

    The file is complete once somebody has read all rows, and is removed when the process ends.
    Where rows are no JSON, or the disk is full, the stream is read every time.

    Args:
        stream: Begins to read the rows.
    """

    def __init__(self, stream: Callable[[], Rows]) -> None:
        self._stream = stream
        self._file: Path | None = None

    def read(self) -> Rows:
        """All rows, each with its place."""
        if self._file is None:
            yield from self._from_stream()
            return
        with self._file.open(encoding="utf-8") as file:
            for line in file:
                row, place = json.loads(line)
                yield row, place

    def _from_stream(self) -> Rows:
        folder = mkdtemp(prefix="limbeck_rows_")
        remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        whole = Path(folder, "rows.jsonl")
        try:
            yield from self._written(whole)
        finally:
            if self._file != whole:
                remove()

    def _written(self, whole: Path) -> Rows:
        """The rows of the stream, which are written to a file as they come."""
        with closing(_File(whole)) as file:
            for row, place in self._stream():
                file.add([row, place])
                yield row, place
            if file.close():
                self._file = whole


class _File:
    """A file of JSON lines that gives up where a value is no JSON, or the disk is full."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._whole = True

    def add(self, value: Any) -> None:
        """Write a value, unless there was one that could not be written."""
        if self._whole:
            try:
                self._file.write(json.dumps(value) + "\n")
            except (TypeError, ValueError, OSError):
                self._whole = False

    def close(self) -> bool:
        """Whether all values were written."""
        try:
            self._file.close()
        except OSError:  # a full disk refuses what is left in the buffer
            self._whole = False
        return self._whole
