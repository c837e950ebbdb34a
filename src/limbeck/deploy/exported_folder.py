"""A folder of `limbeck export`: what it says of itself, and which of its files runs here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ExportError, first_line
from ..models.locate import lacks_weights
from ..system.files import expanded
from ..system.int8_range import int8_range
from .formats import FORMATS
from .results import RESULT, VERSION

_VERSION_KEY = "limbeck_export"


def result_of(folder: Path) -> dict[str, Any] | None:
    """The content of export.json; None where there is none, or beside weights one of others.

    Raises:
        ExportError: It is not what is written here, and the folder has no weights.
    """
    folder = expanded(folder)
    file = folder / RESULT
    try:
        found, why = json.loads(file.read_bytes()), f"it has no {_VERSION_KEY}: {VERSION}"
    except OSError:
        return None
    except ValueError as error:
        found, why = None, f"it is no JSON: {first_line(error)}"
    if isinstance(found, dict) and found.get(_VERSION_KEY) == VERSION:
        return found
    if lacks_weights(str(folder)):
        raise ExportError(
            f"{file} is not what this version of `limbeck export` writes ({why}); copy the folder"
            " again, or export the model again"
        )
    return None


def chosen_format(folder: str, result: Mapping[str, Any], wanted: str | None) -> str:
    """The format whose file runs on this processor.

    Args:
        folder: That holds the files.
        result: As it stands in export.json.
        wanted: The format that is named; None for the default, or another where that may saturate
            or its file was taken away.

    Raises:
        ExportError: There is no such file, or none at all.
    """
    written = {one["format"]: one for one in result["candidates"] if one["file"]}
    if not written:
        raise ExportError(
            f"{folder!r} holds no model file: none kept enough of its model (see export.md); export"
            " again with a lower --keep, or with --force"
        )
    there = {n: one for n, one in written.items() if (Path(folder) / one["file"]).is_file()}
    if not there:
        files = ", ".join(one["file"] for one in written.values())
        raise ExportError(
            f"{folder!r} holds none of the model files that its {RESULT} names ({files}); copy them"
            " there again, or export the model again"
        )
    if wanted is not None:
        if wanted not in there:
            raise ExportError(
                f"{folder!r} has no file of the format {wanted!r}; it has {', '.join(there)}"
            )
        return wanted
    default: str = result["default"]
    if default not in there:
        enough = [name for name, one in there.items() if one["kept"] >= result["keep"]]
        default = min(enough or there, key=lambda name: _quickest(there[name]))
    if not int8_range().reduced or there[default]["exact_on"] == "any processor":
        return default
    # A file that --force wrote is no better than one that may saturate, unless it keeps as much.
    least = min(result["keep"], there[default]["kept"])
    others = [
        name for name, one in there.items() if not FORMATS[name].saturates and one["kept"] >= least
    ]
    return min(others, key=lambda name: _quickest(there[name]), default=default)


def _quickest(candidate: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds of the quickest forward, 0 where it was not measured, and the size."""
    times = candidate["times"]
    return (min(row[2] for row in times["rows"]) if times else 0.0), candidate["megabytes"]
