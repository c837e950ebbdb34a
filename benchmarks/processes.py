"""How much the gradients of a step differ from those of one process, and what processes send.

For every objective, with rows of unequal lengths: the step split into micro-batches, shared by two
processes with DDP, and by two with FSDP2. The difference is the largest of any parameter, divided
by the largest gradient of that objective.

    python benchmarks/processes.py

With --bytes, two processes of one run: what the loopback device has sent for a step, beside what
docs/guide/scaling.md expects. Other programs that use that device add to it.

    python benchmarks/processes.py --bytes [--steps 40]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from safetensors.torch import load_file

from limbeck.demo.run import HERE
from limbeck.models.load import load_body

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


def environment(fsdp: bool) -> dict[str, str]:
    """The environment of a launcher."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
        "ACCELERATE_USE_FSDP": str(fsdp).lower(),
        "FSDP_VERSION": "2",
    }


def gradients(processes: int, fsdp: bool, micro: int) -> dict[str, dict[str, object]]:
    """The gradients of every parameter, by objective and family."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), str(TESTS / "training" / "gradients.py")]
    with tempfile.TemporaryDirectory() as folder:
        command += ["cpu", folder, str(ROWS), str(micro)]
        subprocess.run(command, env=environment(fsdp), capture_output=True, check=True)
        found = load_file(Path(folder) / f"micro-{micro}.safetensors")
    by_case: dict[str, dict[str, object]] = {}
    for key, tensor in found.items():
        family, name, parameter = key.split("/", 2)
        by_case.setdefault(f"{name}, {family}", {})[parameter] = tensor
    return by_case


def sent() -> int:
    """Bytes that the loopback device has sent since the machine was started."""
    return int(Path("/sys/class/net/lo/statistics/tx_bytes").read_text(encoding="ascii"))


def steps_of(log: Path) -> int:
    """The number of steps that a run has logged."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return max([json.loads(line)["step"] for line in lines if '"learning_rate"' in line], default=0)


def bytes_of_a_step(fsdp: bool, steps: int) -> tuple[float, int]:
    """What each of two processes sends in a step of a run, and the number of trained weights."""
    recipe = {
        "teacher": "minilm-demo",
        "student": {"num_hidden_layers": 3, "hidden_size": 192, "num_attention_heads": 6},
        "data": {"text": str(HERE / "novels.txt.gz"), "max_length": 32},
        "stages": [{"objectives": {"hidden_states": {}}, "max_steps": steps, "batch_size": 8}],
        # No record but of steps, and no checkpoint between them.
        "training": {"logging_steps": 1, "eval_steps": 10**6, "save_steps": 10**6, "device": "cpu"},
        "evaluation": {"cost": False, "teacher": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder) / "recipe.yaml", Path(folder) / "run"
        file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", "2", "-m", "limbeck", "distill", str(file), "-o", str(run)]
        process = subprocess.Popen(
            command, env=environment(fsdp), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        seen: list[tuple[int, int]] = []  # a step, and the bytes when it was first seen
        while process.poll() is None:
            step = steps_of(run / "log.jsonl")
            if step and (not seen or step > seen[-1][0]):
                seen.append((step, sent()))
            time.sleep(0.005)
        if process.returncode != 0:
            raise SystemExit(f"the run of two processes has failed ({process.returncode})")
        log = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    # Not the last step, after which all weights are gathered for the student.
    (first, before), (last, after) = seen[0], seen[-2]
    trained = next(r["trainable_parameters"] for r in map(json.loads, log) if "mfu" in r)
    return (after - before) / (last - first) / 2, trained


def show_bytes(steps: int) -> None:
    """Print a table of bytes and, as the last line, one JSON object."""
    teacher = load_body("minilm-demo").encoder.layer
    layers = sum(parameter.numel() for parameter in teacher.parameters())
    print(f"{'':8}{'weights, millions':>19}{'MB by formula':>15}{'MB measured':>13}{'ratio':>8}")
    facts = {}
    for name, fsdp in (("DDP", False), ("FSDP2", True)):
        measured, trained = bytes_of_a_step(fsdp, steps)
        # With two processes, (P - 1) / P is a half. For want of another operation, gloo scatters
        # gradients by summing all of them in every process.
        gathered = 4 * (trained + layers) / 2 if fsdp else 0
        expected = 8 * trained / 2 + gathered
        print(
            f"{name:8}{trained / 1e6:19.2f}{expected / 1e6:15.1f}{measured / 1e6:13.1f}"
            f"{measured / expected:8.3f}"
        )
        facts[name] = {"trained": trained, "expected": expected, "measured": measured}
    print(json.dumps({**facts, "teacher_layers": layers}))


def main() -> None:
    """Print a table and, as the last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", action="store_true", help="what two processes send, instead")
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    if given.bytes:
        show_bytes(given.steps)
        return
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
