"""Runs a program that ends when the process which started this one ends, however that happens.

    python -m limbeck.system.leash PROGRAM ARGUMENTS...

The one that starts this keeps its standard input open. The program has none.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

_SECONDS = 10.0  # between a request to end, and the end


def main() -> None:
    """Run the program, and end as it ends."""
    try:
        process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        sys.exit(f"{sys.argv[1]} cannot be started: {error.strerror}")
    threading.Thread(target=_end_with_input, args=(process,), daemon=True).start()
    code = process.wait()
    _signal(process, signal.SIGKILL)  # what it has started itself
    sys.exit(code if code >= 0 else 128 - code)


def _end_with_input(process: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _signal(process, signal.SIGTERM)
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the program and to all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


if __name__ == "__main__":
    main()
