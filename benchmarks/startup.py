"""Processor time of commands: help, lists, refusals, and importing the package.

The median over several new processes, user and system time together. The import of torch is shown
beside them, because it tells how fast the processor is.

    python benchmarks/startup.py [--rounds 5]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MISSPELT = (
    "teecher: minilm-demo\nstudent: {num_hidden_layers: 3}\ndata: {text: a.txt}\nstages: []\n"
)


def commands(folder: Path) -> dict[str, tuple[list[str], float | None]]:
    """The timed commands by name, each with the seconds it may take."""
    limbeck = [sys.executable, "-m", "limbeck"]
    recipe = folder / "misspelt.yaml"
    recipe.write_text(MISSPELT, encoding="utf-8")
    return {
        "import torch": ([sys.executable, "-c", "import torch"], None),
        "import limbeck": ([sys.executable, "-c", "import limbeck"], 0.3),
        "limbeck --help": ([*limbeck, "--help"], 0.3),
        "limbeck distill --help": ([*limbeck, "distill", "--help"], 0.3),
        "limbeck list objectives": ([*limbeck, "list", "objectives"], 1.0),
        "limbeck list divergences": ([*limbeck, "list", "divergences"], 1.0),
        "limbeck list tasks": ([*limbeck, "list", "tasks"], 1.0),
        "limbeck plan misspelt.yaml": ([*limbeck, "plan", str(recipe)], 1.0),
    }


def processor_seconds(command: list[str]) -> float:
    """User and system time of a command in a new process."""
    before = os.times()
    subprocess.run(command, capture_output=True, check=False)
    after = os.times()
    children = ("children_user", "children_system")
    return sum(getattr(after, name) - getattr(before, name) for name in children)


def main() -> None:
    """Print the table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    facts: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        timed = commands(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in timed}
        for number in range(given.rounds + 1):
            for name, (command, _) in timed.items():
                seconds = processor_seconds(command)
                if number:  # the first run fills the disk cache
                    times[name].append(seconds)
        torch_seconds = statistics.median(times["import torch"])
        print(f"{'':30} {'seconds':>8} {'aim':>5} {'of torch':>9}")
        for name, (_, aim) in timed.items():
            seconds = statistics.median(times[name])
            facts[f"{name}_seconds"] = seconds
            facts[f"{name}_against_torch_ratio"] = seconds / torch_seconds
            aimed = "" if aim is None else f"{aim:.1f}"
            print(f"{name:30} {seconds:8.2f} {aimed:>5} {seconds / torch_seconds:9.2f}")
    print()
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
