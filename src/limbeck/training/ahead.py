"""The next batch is made while the model learns from the current one."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch

from ..batch import Batch
from ..tokenization.batching import ALL_ROWS, BatchSource

_CPU = torch.device("cpu")


class Ahead:
    """Batches of a source, each made one step ahead unless it depends on the weights.

    Attributes:
        waited: Seconds spent waiting for a batch, since it was last set to 0.
    """

    def __init__(
        self,
        source: BatchSource,
        steps: int,
        rows: slice,
        worker: ThreadPoolExecutor,
        device: torch.device,
    ) -> None:
        """The ``rows`` of ``steps`` batches for a device; ``worker`` makes the next one."""
        self._source, self._steps, self._rows, self._worker = source, steps, rows, worker
        self._pins = device.type == "cuda"
        self._next: tuple[int, Future[Batch]] | None = None
        self.waited = 0.0

    def batch(self, number: int) -> Batch:
        """The batch of this number."""
        began = time.perf_counter()
        if self._next is not None and self._next[0] == number:
            batch = self._next[1].result()
        else:
            batch = self._make(number)
        self.waited += time.perf_counter() - began
        self._next = None
        if not self._source.depends_on_weights and number + 1 < self._steps:
            made = self._worker.submit(self._make, number + 1)
            self._next = (number + 1, made)
        return batch

    def _make(self, number: int) -> Batch:
        batch = self._source.batch(number, self._rows)
        return batch.pinned() if self._pins else batch


@contextmanager
def made_ahead(
    source: BatchSource, steps: int, rows: slice = ALL_ROWS, device: torch.device = _CPU
) -> Iterator[Ahead]:
    """Batches of a source, or some rows of each; leaving it waits for the batch being made.

    Args:
        source: Makes the batches.
        steps: How many there are.
        rows: Of each batch.
        device: Reads them; for CUDA they are put into pinned memory.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as worker:
        yield Ahead(source, steps, rows, worker, device)
