"""Ctrl-C ends a run after a whole step, so that what is saved can be gone on from."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C or SIGTERM into a question asked after each step.

    A second one ends the process at once.
    """
    asked: list[int] = []
    before: dict[int, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[number])

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number.value] = signal.signal(number, ask)
    except ValueError:
        pass  # not the main thread, which alone receives signals
    try:
        yield lambda: bool(asked)
    finally:
        for number_, handler in before.items():
            signal.signal(number_, handler)
