"""The files of a model's weights, and what their headers say."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from ..errors import ModelError, first_line

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PRECISIONS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_ROWS = 4096  # rows of a table that are read at once


State = tuple[tuple[Path, int, int], ...]


@dataclass(frozen=True)
class KeptConfig:
    """A configuration as a key of what was found out with it: equal where their texts are.

    Attributes:
        text: All of its fields.
        built: The configuration.
    """

    text: str
    built: Any = field(compare=False)

    @classmethod
    def of(cls, config: Any) -> "KeptConfig":
        """The key of a transformers configuration."""
        return cls(config.to_json_string(use_diff=False), config)


def state_of(files: Iterable[Path]) -> State:
    """Path, size and time of each file: another key as soon as one of them is written again."""
    return tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def weight_files(place: str, *, download: bool = False) -> list[Path] | None:
    """The files of weights that transformers reads; None where they are not on this machine.

    Args:
        place: A folder or a hub name.
        download: Download the files of a hub model that are not here yet.

    Raises:
        ModelError: Shards are missing, the index is damaged, or a file cannot be fetched.
    """
    folder = Path(place)
    if folder.is_file():
        return [folder]  # GGUF
    if folder.is_dir():
        if (folder / WHOLE).is_file():
            return [folder / WHOLE]
        index = folder / INDEX
        names = shard_names(index)
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise ModelError(
                f"{index} names {len(names)} files, of which {len(missing)} are missing:"
                f" {first_few(missing)}; copy the whole model"
            )
        return [folder / name for name in names]
    return _fetched(place) if download else _cached(place)


def shard_names(index: Path) -> list[str]:
    """The files that an index of shards names.

    Raises:
        ModelError: It is no index, or names files outside its folder.
    """
    try:
        shards = json.loads(index.read_text("utf-8"))["weight_map"]
        names = sorted(set(shards.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{index} is no index of shards ({error!r:.80}); copy the model again"
        ) from error
    wrong = [n for n in names if Path(str(n)).name != n or not n.endswith(".safetensors")]
    if wrong or not names:
        named = first_few(repr(name) for name in wrong) or "no files"
        raise ModelError(
            f"{index} names {named}; only safetensors beside it are read: copy the model again"
        )
    return names


def _cached(name: str) -> list[Path] | None:
    if isinstance(whole := try_to_load_from_cache(name, WHOLE), str):
        return [Path(whole)]
    if not isinstance(index := try_to_load_from_cache(name, INDEX), str):
        return None
    found = [try_to_load_from_cache(name, shard) for shard in shard_names(Path(index))]
    files = [Path(file) for file in found if isinstance(file, str)]
    return files if len(files) == len(found) else None


def _fetched(name: str) -> list[Path]:
    try:
        try:
            return [Path(hf_hub_download(name, WHOLE))]
        except LocalEntryNotFoundError:
            if (files := _cached(name)) is not None:
                return files
            raise
        except EntryNotFoundError:
            index = Path(hf_hub_download(name, INDEX))
            return [Path(hf_hub_download(name, shard)) for shard in shard_names(index)]
    except (EntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"cannot download the weights of {name!r}: {first_line(error)}. Give a folder with"
            " safetensors, or a hub name where the hub can be reached"
        ) from error


class Header(NamedTuple):
    """The header of a weight: its shape, and its type under the name that safetensors uses."""

    shape: tuple[int, ...]
    kind: str


def read_headers(files: Sequence[Path]) -> dict[str, Header]:
    """The header of every weight in the files, by its name.

    Raises:
        ModelError: A file is damaged, or may not be read.
    """
    found: dict[str, Header] = {}
    for file in files:
        try:
            file.open("rb").close()  # safetensors would say that it is not there
            with safe_open(file, framework="pt") as weights:
                for name in weights.keys():  # noqa: SIM118 - no mapping
                    part = weights.get_slice(name)
                    found[name] = Header(tuple(part.get_shape()), part.get_dtype())
        except PermissionError as error:
            raise ModelError(
                f"{file} may be read by its owner alone, as safetensors writes files; let the owner"
                " make it readable (chmod a+r), or copy the model"
            ) from error
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is damaged ({error}); copy the model again") from error
    return found


def same_in_files(files: Sequence[Path], one: str, other: str) -> bool:
    """Whether two tables in the files hold the same numbers, whatever their precisions.

    A few thousand rows are read at a time.
    """
    headers = read_headers(files)
    if headers[one].shape != headers[other].shape:
        return False
    with (
        safe_open(_holding(files, one), "pt") as first,
        safe_open(_holding(files, other), "pt") as second,
    ):
        mine, theirs = first.get_slice(one), second.get_slice(other)
        starts = range(0, headers[one].shape[0], _ROWS)
        return all(
            torch.equal(
                mine[start : start + _ROWS].double(), theirs[start : start + _ROWS].double()
            )
            for start in starts
        )


def _holding(files: Sequence[Path], name: str) -> Path:
    return next(file for file in files if name in read_headers([file]))


def first_few(names: Iterable[str]) -> str:
    """The first four names, and the number of the others.

    >>> first_few("abcdef")
    'a, b, c, d and 2 more'
    """
    listed = list(names)
    more = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
    return ", ".join(listed[:4]) + more
