"""A name for what files hold; one is read again only when its state has changed.

Its state is its place on the disk, its size and its times. Whoever writes over a file or puts
another one in its place changes the state, even where size and modification time are kept, for
no program sets the time of the change itself (st_ctime). A file that was only touched has
another state too: it is read once more, and has the same name.
"""

import hashlib
import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from .files import checksum, write_text

_LENGTH = len(hashlib.blake2b(digest_size=32).hexdigest())
_SETTLED = 2_000_000_000  # nanoseconds; clocks of file systems are coarse, so that of a file
# that has just been written another state may look the same
_State = tuple[str, int, int, int, int]


def cache_folder() -> Path:
    """Where tokenized text is kept: $LIMBECK_CACHE, or .cache/limbeck at home."""
    return Path(os.environ.get("LIMBECK_CACHE", "~/.cache/limbeck")).expanduser()


def content_of(*files: Path) -> str:
    """The checksum of what files hold, in turn, as `checksum` gives it."""
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
    with suppress(OSError):  # where nothing can be kept, files are read each time
        write_text(kept, found)
    return found
