"""How much the gradients of a step differ from those of one process and one batch.

For every objective, with rows of unequal lengths: the step split into micro-batches, shared by two
processes with DDP, and by two with FSDP2. The difference is the largest of any parameter, divided
by the largest gradient of that objective.

    python benchmarks/processes.py
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file

TESTS = Path(__file__).parent.parent / "tests"
ROWS = 8
# Number of processes, whether FSDP2 is used, sequences in a micro-batch.
SPLITS = {
    "8 x 1": (1, False, 1),
    "4 x 2": (1, False, 2),
    "2 x 4": (1, False, 4),
    "DDP, 2 x 4": (2, False, 4),
    "DDP, 2 x 1": (2, False, 1),
    "FSDP2, 2 x 4": (2, True, 4),
    "FSDP2, 2 x 1": (2, True, 1),
}


def gradients(processes: int, fsdp: bool, micro: int) -> dict[str, dict[str, object]]:
    """The gradients of every parameter, by objective and family."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
        "ACCELERATE_USE_FSDP": str(fsdp).lower(),
        "FSDP_VERSION": "2",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), str(TESTS / "training" / "gradients.py")]
    with tempfile.TemporaryDirectory() as folder:
        command += ["cpu", folder, str(ROWS), str(micro)]
        subprocess.run(command, env=environment, capture_output=True, check=True)
        found = load_file(Path(folder) / f"micro-{micro}.safetensors")
    by_case: dict[str, dict[str, object]] = {}
    for key, tensor in found.items():
        family, name, parameter = key.split("/", 2)
        by_case.setdefault(f"{name}, {family}", {})[parameter] = tensor
    return by_case


def main() -> None:
    """Print a table and, as the last line, one JSON object."""
    whole = gradients(1, False, ROWS)
    facts: dict[str, dict[str, float]] = {case: {} for case in whole}
    for split, how in SPLITS.items():
        found = gradients(*how)
        for case, expected in whole.items():
            largest = max(float(g.abs().max()) for g in expected.values())
            off = max(float((found[case][k] - g).abs().max()) for k, g in expected.items())
            facts[case][split] = off / largest
    print(f"{'objective':24}" + "".join(f"{split:>14}" for split in SPLITS))
    for case, row in sorted(facts.items()):
        print(f"{case:24}" + "".join(f"{row[split]:14.1e}" for split in SPLITS))
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
