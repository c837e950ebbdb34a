"""Ctrl-C ends a run after a whole step, so that it can resume from what is saved."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether Ctrl-C or SIGTERM has come.

    A second Ctrl-C or SIGTERM ends the process at once.
    """
    received: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number.value] = signal.signal(number, note)
    except ValueError:
        pass  # not the main thread, and only the main thread receives signals
    try:
        yield lambda: bool(received)
    finally:
        for number_, handler in before.items():
            signal.signal(number_, handler)
