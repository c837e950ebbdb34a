"""The next batch is made while the model learns from this one, so that the loop seldom waits."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from ..batch import Batch
from ..tokenization.batching import ALL_ROWS, BatchSource


class Ahead:
    """Batches of a source, one made ahead where it does not hang on what is learned.

    Attributes:
        waited: Seconds for which no batch was ready, since it was last set to 0.
    """

    def __init__(
        self, source: BatchSource, steps: int, rows: slice, worker: ThreadPoolExecutor
    ) -> None:
        """Those ``rows`` of ``steps`` batches; ``worker`` makes the one after the last."""
        self._source, self._steps, self._rows, self._worker = source, steps, rows, worker
        self._next: tuple[int, Future[Batch]] | None = None
        self.waited = 0.0

    def batch(self, number: int) -> Batch:
        """The batch of that number."""
        began = time.perf_counter()
        if self._next is not None and self._next[0] == number:
            batch = self._next[1].result()
        else:
            batch = self._source.batch(number, self._rows)
        self.waited += time.perf_counter() - began
        self._next = None
        if not self._source.hangs_on_weights and number + 1 < self._steps:
            made = self._worker.submit(self._source.batch, number + 1, self._rows)
            self._next = (number + 1, made)
        return batch


@contextmanager
def made_ahead(source: BatchSource, steps: int, rows: slice = ALL_ROWS) -> Iterator[Ahead]:
    """Batches of a source, or some rows of each; what is being made is awaited at the end."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as worker:
        yield Ahead(source, steps, rows, worker)
