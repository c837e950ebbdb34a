"""Processes that this one starts: to measure where nothing has been warmed, or to share work."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Nothing is imported from the user's current folder.
_PROGRAM = (
    "import json, sys; sys.path[:] = [place for place in sys.path if place];"
    " from {} import {} as function; print(json.dumps(function(**json.loads(sys.argv[1]))))"
)


class ChildError(Exception):
    """A process has failed; its arguments are how it ended and its last lines."""


def returned_by(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """What a function returns in a process of its own, by way of JSON.

    Args:
        function: Of a module, by its name there.
        arguments: By name.

    Raises:
        ChildError: It failed.
    """
    program = _PROGRAM.format(function.__module__, function.__name__)
    return printed_by([sys.executable, "-c", program, json.dumps(arguments)])


def printed_by(command: Sequence[str]) -> Any:
    """What a process prints as JSON in its last line.

    Raises:
        ChildError: It failed.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # its warnings have paths, in the encoding of the locale
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:]) or "it printed nothing"
        raise ChildError(f"{done.returncode}, not 0 (below 0 it was killed)", tail)
    return json.loads(done.stdout.strip().splitlines()[-1])


def end_with_parent() -> None:
    """End this process, as SIGTERM does, once the process that holds its standard input ends."""
    number = sys.stdin.fileno()

    def wait() -> None:
        # Not by sys.stdin, whose lock a waiting thread would still hold when Python ends.
        while os.read(number, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
