"""Progress of long jobs: a bar on a terminal, a line every 30 seconds in a log."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 30.0
_ITEMS_BETWEEN_LOOKS = 64
_console: ContextVar[Console | None] = ContextVar("console", default=None)
_Item = TypeVar("_Item")


@contextmanager
def showing(console: Console) -> Iterator[None]:
    """Within this context `told` shows progress on the console; elsewhere it is silent."""
    token = _console.set(console)
    try:
        yield
    finally:
        _console.reset(token)


def told(items: Iterable[_Item], name: str, unit: str) -> Iterator[_Item]:
    """Pass the items on one by one, and show how many of them are done.

    Args:
        items: The items; where their number is known it is shown as the total.
        name: The name of the job.
        unit: What an item is, in the plural.
    """
    console = _console.get()
    if console is None:
        yield from items
        return
    total = len(items) if isinstance(items, Sized) else None
    with ProgressBar(name, console=console, unit=unit) as bar:
        for number, item in enumerate(items):
            if total is not None or number % _ITEMS_BETWEEN_LOOKS == 0:
                bar.show(number, total, "")
            yield item


def warn(console: Console, text: str) -> None:
    """Print a warning as it is: no part of it is read as a style, and no line is broken."""
    said = f"warning: {text}"
    console.print(said, style="yellow", highlight=False, markup=False, emoji=False, soft_wrap=True)


class ProgressBar:
    """A progress bar with the remaining time and some facts; a line every 30 seconds in a log.

    Args:
        name: The name of the job.
        console: Where progress is shown; a quiet console shows nothing.
        unit: What is counted, in the plural, for the lines of a log.
        clock: Returns the time in seconds.
    """

    # When any job last printed a line, so that many short jobs print as rarely as a long one.
    _said: ClassVar[float | None] = None
    _shown: ClassVar[bool] = False  # a terminal shows one bar at a time, that of the outer job

    def __init__(
        self,
        name: str,
        *,
        console: Console,
        unit: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = console.is_terminal and not os.environ.get("CI")
        self._name, self._unit, self._console, self._clock = name, unit, console, clock
        self._first: tuple[int, float] | None = None  # (items done, time) at the first call
        if ProgressBar._said is None:
            ProgressBar._said = clock()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            console=console,
            disable=not self._watched,
        )
        self._task: TaskID = self._progress.add_task(name, total=None, facts="")

    def __enter__(self) -> "ProgressBar":
        self._is_shown = self._watched and not ProgressBar._shown
        if self._is_shown:
            ProgressBar._shown = True
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_shown:
            ProgressBar._shown = False
            self._progress.stop()

    def show(self, done: int, total: int | None, facts: str) -> None:
        """Show that ``done`` items of a total, which may be unknown, are done."""
        self._progress.update(self._task, completed=done, total=total, facts=facts)
        now = self._clock()
        self._first = self._first or (done, now)
        if self._watched or now - (ProgressBar._said or now) < SECONDS_BETWEEN_LINES:
            return
        ProgressBar._said = now
        counted = f"{done:,}" if total is None else f"{done:,} of {total:,}"
        parts = [f"{counted} {self._unit}".rstrip(), facts]
        parts += [time_left(done, total, self._first, now)] if total else []
        line = ", ".join(part for part in parts if part)
        self._console.print(f"{self._name}: {line}", highlight=False, markup=False, soft_wrap=True)


def time_left(done: int, total: int, first: tuple[int, float], now: float) -> str:
    """The remaining time at the pace since the job began; empty before a pace is known.

    >>> time_left(30, 90, (0, 100.0), 160.0)
    '2 min left'
    """
    made, seconds = done - first[0], now - first[1]
    return f"{duration(seconds / made * (total - done))} left" if made > 0 and seconds > 0 else ""


def duration(seconds: float) -> str:
    """Seconds in a form for people.

    >>> duration(42.4), duration(600.0), duration(9000.0)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
