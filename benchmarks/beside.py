"""A training step alone and beside another program, for different ways of OpenMP to wait.

Every variant runs in a separate process, because OpenMP reads its settings once. Beside other work
means that a second process does the same on the same cores, with the default settings of the
system. Variants are measured alternately; ratios are of medians.

    python benchmarks/beside.py [--rounds 3] [--seconds 6]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from limbeck.system.device import describe_device

VARIANTS: dict[str, dict[str, str]] = {
    "spinning (OpenMP's default)": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "1,000 spins": {"GOMP_SPINCOUNT": "1000"},
    "one thread less": {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) - 1))},
}
WIDTH, ROWS, LAYERS, WARM_UP = 256, 32 * 128, 3, 3


def step_seconds(seconds: float) -> float:
    """Median seconds for forward and backward of feed-forward layers of a small student."""
    torch.manual_seed(0)
    layers = [
        torch.nn.Sequential(
            torch.nn.Linear(WIDTH, 4 * WIDTH),
            torch.nn.GELU(),
            torch.nn.Linear(4 * WIDTH, WIDTH),
            torch.nn.LayerNorm(WIDTH),
        )
        for _ in range(LAYERS)
    ]
    model, given = torch.nn.Sequential(*layers), torch.randn(ROWS, WIDTH)
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while len(times) <= WARM_UP or time.perf_counter() < ends:
        began = time.perf_counter()
        model(given).square().mean().backward()
        times.append(time.perf_counter() - began)
    return statistics.median(times[WARM_UP:])


def run(settings: dict[str, str], seconds: float, *, beside: bool) -> float:
    """Seconds for a step in a new process with some settings."""
    command = [sys.executable, str(Path(__file__)), "--one", "--seconds"]
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    other = None
    if beside:
        other = subprocess.Popen(
            [*command, str(10 * seconds)], env=plain, stdout=subprocess.DEVNULL
        )
        time.sleep(4)  # until it has loaded torch, and computes
    try:
        done = subprocess.run(
            [*command, str(seconds)],
            env=plain | settings,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        if other:
            other.kill()
            other.wait()
    return float(done.stdout)


def main() -> None:
    """Print the table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--one", action="store_true", help="run one of the timed processes")
    given = parser.parse_args()
    if given.one:
        print(step_seconds(given.seconds))
        return
    times: dict[tuple[str, bool], list[float]] = {}
    for _ in range(given.rounds):
        for beside in (False, True):
            for name, settings in VARIANTS.items():
                found = run(settings, given.seconds, beside=beside)
                times.setdefault((name, beside), []).append(found)
    medians = {key: statistics.median(some) for key, some in times.items()}
    first = next(iter(VARIANTS))
    print(f"{describe_device(torch.device('cpu'))}, float32, milliseconds a step")
    print(f"{'':30} {'alone':>8} {'ratio':>7} {'beside':>8} {'ratio':>7}")
    facts: dict[str, float | str] = {"processor": describe_device(torch.device("cpu"))}
    for name in VARIANTS:
        row = []
        for beside, place in ((False, "alone"), (True, "beside")):
            ratio = medians[name, beside] / medians[first, beside]
            row.append(f"{1000 * medians[name, beside]:8.0f} {ratio:7.2f}")
            facts[f"{name}: {place}_seconds"] = medians[name, beside]
            facts[f"{name}: {place}_ratio"] = ratio
        print(f"{name:30} {' '.join(row)}")
    print()
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
