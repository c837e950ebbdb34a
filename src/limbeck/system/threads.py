"""How OpenMP threads wait for each other, which must be set before torch is imported."""

import os


def wait_passively() -> None:
    """Let threads sleep while they wait, unless OMP_WAIT_POLICY is set.

    By default OpenMP's threads spin: they occupy their cores while they wait for the slowest
    thread, so that two programs on the same cores slow each other down several times.
    benchmarks/beside.py measures what sleeping costs, and what it gains beside other work.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
