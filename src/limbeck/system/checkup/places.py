"""Where files are stored that are not a run's own, how large they are, and what room is left."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..files import expanded
from ..fingerprints import cache_folder

_SECONDS_EACH = 0.5  # for adding up the sizes of files


@dataclass(frozen=True)
class Place:
    """A folder that files are stored in.

    Attributes:
        what: Is stored there.
        path: Of the folder, which may not be there yet.
        held_bytes: Size of the files in it; 0 where it is not there.
        counted: False where there were too many files to add up all of them.
        writable: Whether a file could be written.
        free_bytes: Room on its disk; None where the system does not tell.
        variable: The environment variable that moves it; empty where none does.
    """

    what: str
    path: str
    held_bytes: int
    counted: bool
    writable: bool
    free_bytes: int | None
    variable: str = ""


def places(environment: Mapping[str, str] = os.environ, here: Path | None = None) -> list[Place]:
    """The caches, the folder for short-lived files, and this folder, where runs are made.

    Args:
        environment: Variables, as the libraries read them.
        here: The folder in which kept signals are looked for; by default the present one.
    """
    here = here or Path.cwd()
    hub = hugging_face_home(environment)
    named = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    rows = environment.get("HF_DATASETS_CACHE")
    found = [
        place("prepared text", cache_folder(), "LIMBECK_CACHE"),
        place("models of the hub", expanded(named) if named else hub / "hub", "HF_HUB_CACHE"),
        place(
            "datasets of the hub", expanded(rows) if rows else hub / "datasets", "HF_DATASETS_CACHE"
        ),
        place("short-lived files", Path(tempfile.gettempdir()), "TMPDIR", sized=False),
        place("this folder", here, sized=False),
    ]
    return found + [place("kept signals", folder) for folder in kept_signals(here)]


def hugging_face_home(environment: Mapping[str, str]) -> Path:
    """The folder of the hub's files, as huggingface_hub finds it."""
    if home := environment.get("HF_HOME"):
        return expanded(home)
    return expanded(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"


def kept_signals(folder: Path) -> Iterator[Path]:
    """Folders of kept signals of teachers, of `limbeck cache` and of studies, near a folder."""
    for pattern in ("*", "*/*"):
        for found in sorted(folder.glob(pattern)):
            of_study = found.name == "signals" and found.is_dir()
            if of_study or _is_cache(found / "manifest.json"):
                yield found


def place(what: str, path: Path, variable: str = "", *, sized: bool = True) -> Place:
    """A folder with its size and room, whether or not it is there."""
    held, counted = folder_bytes(path) if sized else (0, True)
    nearest = path
    while not nearest.is_dir() and nearest != nearest.parent:
        nearest = nearest.parent
    free = None
    with suppress(OSError):
        free = shutil.disk_usage(nearest).free
    return Place(what, str(path), held, counted, _can_write(nearest), free, variable)


def folder_bytes(folder: Path, seconds: float = _SECONDS_EACH) -> tuple[int, bool]:
    """Bytes of the files in a folder, links not followed, and whether all could be counted."""
    until = time.monotonic() + seconds
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(Path(parent) / name).st_size
        if time.monotonic() > until:
            return total, False
    return total, True


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _is_cache(manifest: Path) -> bool:
    with suppress(OSError, ValueError):
        found = json.loads(manifest.read_text(encoding="utf-8"))
        return isinstance(found, dict) and {"format", "kind", "identity"} <= found.keys()
    return False
