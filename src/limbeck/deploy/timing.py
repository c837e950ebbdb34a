"""Milliseconds of a model file, in its own process; torch is there only if its engine needs it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from ..system.child import ChildError, returned_by
from ..system.linux import peak_resident_bytes
from .engines import open_file
from .formats import FORMATS
from .results import FileCost, Times

BATCHES, LENGTHS = (1, 8, 32), (16, 64, 128, 512)
_MOST_TOKENS = 4096  # of all texts at once; more of them take as long for each token
_WARM_UP, _FEWEST = 2, 5
_SLOW = 2.0  # seconds of a forward that is timed once

Rows = list[tuple[int, int, float, float]]  # batch, length, p50 and p95 in seconds


def times_of(
    run: Callable[[dict[str, Any]], Any],
    inputs: Sequence[str],
    *,
    vocabulary: int,
    lengths: Sequence[int],
    seconds: float,
) -> Rows:
    """Seconds of a forward at every batch size and length, on random tokens without padding.

    More than 4,096 tokens at once are left out, and a forward of more than 2 seconds is timed once.

    Args:
        run: Takes int64 arrays [batch, tokens] by name.
        inputs: Their names.
        vocabulary: Ids of tokens end below it.
        lengths: Tokens of a text.
        seconds: Spent on each combination, at least.
    """
    chance, found = np.random.default_rng(0), []
    for length in lengths:
        for batch in BATCHES:
            if batch > 1 and batch * length > _MOST_TOKENS:
                continue
            ids = chance.integers(min(5, vocabulary - 1), vocabulary, (batch, length))
            zeros, ones = np.zeros((batch, length), np.int64), np.ones((batch, length), np.int64)
            known = {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}
            feed = {name: known[name] for name in inputs}
            p50, p95 = np.percentile(_seconds(run, feed, seconds), [50, 95])
            found.append((batch, length, float(p50), float(p95)))
    return found


def _seconds(
    run: Callable[[dict[str, Any]], Any], feed: dict[str, Any], least: float
) -> list[float]:
    """Seconds of forwards after a warm-up, all of them together at least so many."""
    times: list[float] = []
    while sum(times[_WARM_UP:]) < least or len(times) < _WARM_UP + _FEWEST:
        began = time.perf_counter()
        run(feed)
        times.append(time.perf_counter() - began)
        if len(times) == _WARM_UP and times[-1] > _SLOW:
            return times[-1:]
    return times[_WARM_UP:]


def times_of_file(
    file: Path, *, threads: int, vocabulary: int, lengths: Sequence[int], seconds: float
) -> Times:
    """Seconds of a file in a process of its own; its cold start reads one text of one token.

    Args:
        file: With what stands beside it.
        threads: That compute.
        vocabulary: Ids of tokens end below it.
        lengths: Tokens of a text.
        seconds: Spent on each batch size and length, at least.

    Raises:
        ExportError: The process failed; its last lines are in the message.
    """
    return _times(_of_process(file, threads, vocabulary, lengths, seconds))


def cost_of_file(
    file: Path, form: str, *, threads: int, vocabulary: int, lengths: Sequence[int], seconds: float
) -> FileCost:
    """What a file costs in a process of its own.

    Args:
        file: With what stands beside it.
        form: Its format.
        threads: That compute.
        vocabulary: Ids of tokens end below it.
        lengths: Tokens of a text.
        seconds: Spent on each batch size and length, at least.

    Raises:
        ExportError: The process failed; its last lines are in the message.
    """
    found = _of_process(file, threads, vocabulary, lengths, seconds)
    engine, size = FORMATS[form].engine, sum(one.stat().st_size for one in files_of(file))
    return FileCost(form, engine, size / 1e6, threads, found["memory"], _times(found))


def files_of(file: Path) -> list[Path]:
    """A model file, and that of its weights where they stand beside it."""
    beside = file.with_name(f"{file.name}.data")  # of a large ONNX file
    weights = file.with_suffix(".bin") if file.suffix == ".xml" else beside
    return [one for one in (file, weights) if one.exists()]


def _times(found: Any) -> Times:
    rows = ((batch, length, p50, p95) for batch, length, p50, p95 in found["times"])
    return Times(found["cold"], tuple(rows))


def _of_process(
    file: Path, threads: int, vocabulary: int, lengths: Sequence[int], seconds: float
) -> Any:
    """What `_measured` returns in a process of its own.

    Raises:
        ExportError: It failed.
    """
    given = {
        "file": str(file),
        "threads": threads,
        "vocabulary": vocabulary,
        "lengths": lengths,
        "seconds": seconds,
    }
    try:
        return returned_by(_measured, given)
    except ChildError as error:
        ended, tail = error.args
        raise ExportError(
            f"{file.name} could not be timed: the process ended with {ended}; leave it out with"
            f" --no-timed:\n{tail}"
        ) from error


def _measured(
    file: str, threads: int, vocabulary: int, lengths: Sequence[int], seconds: float
) -> dict[str, Any]:
    """The times of a file and its memory: what the process that is measured computes."""
    before, began = peak_resident_bytes(), time.perf_counter()
    run = open_file(Path(file), threads)
    run(dict.fromkeys(run.inputs, np.ones((1, 1), np.int64)))
    cold = time.perf_counter() - began
    times = times_of(run, run.inputs, vocabulary=vocabulary, lengths=lengths, seconds=seconds)
    peak = peak_resident_bytes()
    memory = None if before is None or peak is None else peak - before
    return {"cold": cold, "times": times, "memory": memory}
