"""Measuring in a process of its own, which nothing done before has warmed or slowed."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any


class ChildError(Exception):
    """A process has failed; its arguments are how it ended and its last lines."""


def printed_by(command: Sequence[str]) -> Any:
    """What a process prints as JSON in its last line.

    Raises:
        ChildError: It failed.
    """
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:]) or "it printed nothing"
        raise ChildError(f"{done.returncode}, not 0 (below 0 it was killed)", tail)
    return json.loads(done.stdout.strip().splitlines()[-1])
