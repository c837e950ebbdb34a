"""How threads wait for one another, which has to be said before torch is loaded."""

import os


def wait_passively() -> None:
    """Let threads sleep while they wait, where the environment says nothing else.

    By default OpenMP's threads spin: they hold their cores while they wait for the slowest of
    them, so that two programs on the same cores slow each other several times. What sleeping
    costs alone and gains beside other work is measured by benchmarks/beside.py.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
