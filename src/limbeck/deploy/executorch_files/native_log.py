"""What ExecuTorch's runtime prints, which is of its own insides, kept in place of printed."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STDERR = 2


@contextmanager
def native_log() -> Iterator[Callable[[], str]]:
    """A context in which nothing is printed to standard error, by no thread of the process.

    No level of the runtime's log is set from Python: only the file it is written to can be changed.

    Yields:
        What gives the last line that was printed, without the place in the code that it begins
        with; empty where there is none.
    """
    sys.stderr.flush()
    before = os.dup(_STDERR)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), _STDERR)

        def last() -> str:
            kept.seek(0)
            lines = kept.read().decode(errors="replace").split("\n")
            said = next((line for line in reversed(lines) if line.strip()), "")
            return said.partition("] ")[2] or said

        try:
            yield last
        finally:
            sys.stderr.flush()
            os.dup2(before, _STDERR)
            os.close(before)
