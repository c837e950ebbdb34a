"""Kills a run again and again at random moments: started as a program by test_kills.py.

The libraries are imported once and every attempt is a fork, so that what is killed is the run
and not the import. Nothing has been computed before the fork, so no thread is lost by it.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import yaml

from limbeck.run.distill import distill


def attempt(recipe: dict, folder: Path, seconds: float | None) -> bool:
    """Whether the run came to its end before it was killed after that time."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            distill(recipe, folder)
            code = 0
        finally:
            os._exit(code)
    if seconds is not None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.001)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
    else:
        _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"a run that was not killed ended with {status}")
    return True


def main(recipe: str, place: str, kills: str, seed: str) -> None:
    raw, chance = yaml.safe_load(Path(recipe).read_text()), random.Random(int(seed))
    folder = Path(place)
    attempt(raw, folder / "warm", None)  # tokenizes, so that every other run finds that done
    began = time.monotonic()
    attempt(raw, folder / "whole", None)
    whole = time.monotonic() - began
    killed = half_written = runs = 0
    while killed < int(kills):
        run = folder / f"run-{runs}"
        # Once nothing is left to kill in a run, the next one is begun.
        while not attempt(raw, run, chance.uniform(0, whole)):
            killed += 1
            half_written += bool(list(run.rglob("*.part")))
        runs += 1
    facts = {"kills": killed, "half_written": half_written, "runs": runs, "seconds": whole}
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
