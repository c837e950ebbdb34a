"""Locks for processes that share a folder: which of them works on what, until it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import RecipeError


@contextmanager
def claim(folder: Path, name: str, *, wait: bool = False) -> Iterator[bool]:
    """Lock a named task for the length of the block; yields whether this process holds the lock.

    The system releases the lock of a process that dies, so that another process can take over.

    Args:
        folder: The folder of all locks.
        name: The name of the task; slashes are allowed.
        wait: Wait for a process that holds the lock; otherwise False is yielded at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name.replace('/', '+')}.lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def alone(folder: Path, doing: str) -> Iterator[None]:
    """Keep other commands out of a folder: two would write each other's files.

    Args:
        folder: That is written to.
        doing: What no other command may do in it, as training.

    Raises:
        RecipeError: Another command does it.
    """
    with claim(folder, doing) as free:
        if not free:
            raise RecipeError(
                f"another command is {doing} in {folder}; wait until it has ended, or use another"
                " folder"
            )
        yield
