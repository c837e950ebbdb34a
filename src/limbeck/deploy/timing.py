"""Milliseconds of a model file, in a process of its own that never loads torch."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from ..system.child import ChildError, printed_by
from .engines import open_file

BATCHES, LENGTHS = (1, 8, 32), (16, 128)
_WARM_UP, _FEWEST = 2, 5
# Nothing is imported from the user's current folder.
_PROGRAM = (
    "import sys; sys.path[:] = [place for place in sys.path if place];"
    " from limbeck.deploy.timing import print_times; print_times()"
)
Times = list[tuple[int, int, float, float]]  # batch, length, p50 and p95 in seconds


def times_of(
    run: Callable[[dict[str, Any]], Any],
    inputs: Sequence[str],
    *,
    vocabulary: int,
    lengths: Sequence[int],
    seconds: float,
) -> Times:
    """Seconds of a forward at every batch size and length, on random tokens without padding.

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
            ids = chance.integers(min(5, vocabulary - 1), vocabulary, (batch, length))
            zeros, ones = np.zeros((batch, length), np.int64), np.ones((batch, length), np.int64)
            known = {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}
            feed = {name: known[name] for name in inputs}
            for _ in range(_WARM_UP):
                run(feed)
            times: list[float] = []
            while sum(times) < seconds or len(times) < _FEWEST:
                began = time.perf_counter()
                run(feed)
                times.append(time.perf_counter() - began)
            p50, p95 = np.percentile(times, [50, 95])
            found.append((batch, length, float(p50), float(p95)))
    return found


def times_of_file(
    file: Path, *, threads: int, vocabulary: int, lengths: Sequence[int], seconds: float
) -> tuple[float, Times]:
    """Seconds until a fresh process has its first answer, and those of `times_of`.

    The first number is of importing the engine, loading the file and one text of one token.

    Raises:
        ExportError: The process failed; its last lines are in the message.
    """
    command = [sys.executable, "-c", _PROGRAM, str(file), "--threads", str(threads)]
    command += ["--vocabulary", str(vocabulary), "--seconds", str(seconds)]
    command += ["--lengths", *map(str, lengths)]
    try:
        found = printed_by(command)
    except ChildError as error:
        ended, tail = error.args
        raise ExportError(
            f"{file.name} could not be timed: the process ended with {ended}; leave it out with"
            f" --no-timed:\n{tail}"
        ) from error
    return found["cold"], [(batch, n, p50, p95) for batch, n, p50, p95 in found["times"]]


def print_times() -> None:
    """Print the times of a file: the program of the process that is measured."""
    parser = argparse.ArgumentParser(description="Print the times of a model file as JSON.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    given = parser.parse_args()
    began = time.perf_counter()
    run = open_file(given.file, given.threads)
    run(dict.fromkeys(run.inputs, np.ones((1, 1), np.int64)))
    cold = time.perf_counter() - began
    times = times_of(
        run,
        run.inputs,
        vocabulary=given.vocabulary,
        lengths=given.lengths,
        seconds=given.seconds,
    )
    sys.stdout.write(json.dumps({"cold": cold, "times": times}) + "\n")
