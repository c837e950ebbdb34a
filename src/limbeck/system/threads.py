"""OpenMP's threads, which must be set before torch is imported: how they wait, and how many."""

import os

from .linux import processor_limit


def wait_passively() -> None:
    """Let threads sleep while they wait, unless OMP_WAIT_POLICY is set.

    By default OpenMP's threads spin: they occupy their cores while they wait for the slowest
    thread, so that two programs on the same cores slow each other down several times.
    benchmarks/beside.py measures what sleeping costs, and what it gains beside other work.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def usable_processors() -> int:
    """Processors that this process may use, which may be fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no such call
        return os.cpu_count() or 1


def shared_threads(processes: int) -> int:
    """How many threads each of some processes takes, so that all of them together fit.

    Together they have as many as OMP_NUM_THREADS says, by default one for each processor.

    Args:
        processes: That compute at the same time.
    """
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    limit = processor_limit()
    there = min(usable_processors(), max(1, int(limit))) if limit else usable_processors()
    return max(1, (int(named) if named.isdigit() else there) // processes)
