"""A function that several processes apply to many items, with the results in the items' order."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.queues import Queue
from typing import Any, TypeVar

from ..errors import DeviceError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_ITEMS_A_PROCESS = 2  # one that is worked on, and the next one

_function: Callable[[Any], Any] | None = None  # of a process of the pool


def in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, processes: int
) -> Iterator[_Result]:
    """The results of a function for all items, in their order.

    Args:
        function: Without a state; it is sent to every process once, and imported there, so it is a
            function of a module.
        items: Read as fast as results are taken, a few ahead.
        processes: One applies the function here, without another process.

    Raises:
        BrokenProcessPool: A process has ended without a result.
        DeviceError: The system has no shared memory for their locks.
    """
    if processes == 1:
        yield from map(function, items)
        return
    # A process that is forked would have this one's locks, which other threads may hold.
    context = multiprocessing.get_context("spawn")
    # By a queue, which has a thread of its own. As an argument, what does not fit into a pipe would
    # be waited for until a process has imported all that it needs: they would begin in turn.
    try:
        functions = context.Queue()
    except OSError as error:
        raise DeviceError(
            f"{processes} processes cannot share locks here ({error.strerror}), as where /dev/shm"
            " is missing or may not be written to; use one (data.num_proc: 1)"
        ) from error
    for _ in range(processes):
        functions.put(function)
    pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(functions,))
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_apply, item))
            if len(waiting) > _ITEMS_A_PROCESS * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        functions.cancel_join_thread()  # some may not have been fetched
        functions.close()


def _begin(functions: "Queue[Callable[[Any], Any]]") -> None:
    global _function
    _function = functions.get()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes share the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that has started them
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process of a pool does not notice that the one which started it was killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _apply(item: Any) -> Any:
    if _function is None:
        raise RuntimeError("the process was not begun")
    return _function(item)
