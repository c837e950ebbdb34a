"""Ctrl-C ends a run after a whole step, so that it can resume from what is saved."""

import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor

from .processes import summed_there


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


class SharedFlag:
    """Whether any process has raised a flag, without a wait for the device.

    Processes on CUDA hear of a flag two steps after it was raised: its sum has long been computed
    then. All of them hear of it after the same step.
    """

    _STEPS_LATER: ClassVar[int] = 2

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._sums: deque[Callable[[], bool]] = deque()

    def raised(self, mine: bool, *, at_end: bool) -> bool:
        """Whether a flag was raised; ``at_end`` hears of all flags so far."""
        device = self._accelerator.device
        if self._accelerator.num_processes == 1:
            return mine
        number = torch.full((), float(mine), device=device)
        self._sums.append(_read_later(summed_there(number, self._accelerator)))
        later = self._STEPS_LATER if device.type == "cuda" and not at_end else 0
        found = False
        while len(self._sums) > later:
            found = self._sums.popleft()() or found
        return found


def _read_later(number: Tensor) -> Callable[[], bool]:
    """A function that says whether a number is above 0, and waits only for what came before it."""
    if number.device.type != "cuda":
        return lambda: bool(number > 0)
    copy = torch.empty((), dtype=number.dtype, pin_memory=True)
    copy.copy_(number, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()

    def answer() -> bool:
        done.synchronize()
        return bool(copy > 0)

    return answer
