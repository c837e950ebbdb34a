"""Hashes of file contents; a file is read again only when its state has changed.

The state of a file is its inode, its size and its times. Overwriting or replacing a file changes
its state even where size and modification time stay the same, because no program can set the time
of the last change (st_ctime). A file that was only touched has a new state too: it is read once
more, and its hash is the same.
"""

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from .files import checksum, expanded, write_text

_LENGTH = len(hashlib.blake2b(digest_size=32).hexdigest())
# Nanoseconds after which a state is trusted: clocks of file systems are coarse, so two states of a
# file that has just been written may look the same.
_SETTLED = 2_000_000_000
_State = tuple[str, int, int, int, int]


def cache_folder() -> Path:
    """The folder for tokenized text: $LIMBECK_CACHE, or ~/.cache/limbeck.

    A user without a home folder has it among short-lived files.
    """
    if named := os.environ.get("LIMBECK_CACHE"):
        return expanded(named)
    usual = expanded("~/.cache/limbeck")
    return usual if usual.is_absolute() else Path(tempfile.gettempdir(), "limbeck")


def content_of(*files: Path) -> str:
    """The `checksum` of some files, remembered for as long as their states do not change."""
    now = time.time_ns()
    states = [(file, file.stat()) for file in files]
    if any(now - state.st_ctime_ns < _SETTLED for _, state in states):
        return checksum(*files)
    return _in_state(
        tuple(
            (str(file.resolve()), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
            for file, s in states
        )
    )


@lru_cache(maxsize=256)
def _in_state(states: tuple[_State, ...]) -> str:
    kept = cache_folder() / "contents" / hashlib.sha256(repr(states).encode()).hexdigest()[:32]
    with suppress(OSError, ValueError):
        found = kept.read_text(encoding="ascii")
        if len(found) == _LENGTH:
            return found
    found = checksum(*(Path(place) for place, *_ in states))
    with suppress(OSError):  # where nothing can be stored, files are read each time
        write_text(kept, found)
    return found
