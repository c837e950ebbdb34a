"""Several processes at one folder: what each of them works on, until it is done or dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_ENDING = ".lock"


@contextmanager
def claim(folder: Path, name: str, *, wait: bool = False) -> Iterator[bool]:
    """Whether this process has something for itself while it is at work on it.

    The system drops the claim of a process that dies, so that another may go on.

    Args:
        folder: Of all claims.
        name: Of what is claimed; slashes are allowed.
        wait: Until the process that has it is done; else False says that one has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_file(folder, name))
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def anyone_has(folder: Path, names: list[str]) -> bool:
    """Whether some process has one of these for itself now."""
    for name in names:
        if _file(folder, name).exists():
            with claim(folder, name) as free:
                if not free:
                    return True
    return False


def _file(folder: Path, name: str) -> Path:
    return folder / (name.replace("/", "+") + _ENDING)
