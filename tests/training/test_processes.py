"""The step is the same with one process or several, with one micro-batch or many."""

import subprocess
from pathlib import Path

import pytest
import torch
from conftest import launcher
from gradients import objectives_of
from safetensors.torch import load_file

from limbeck.models.families import ARCHITECTURES

HERE = Path(__file__).parent
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
ROWS = "7"  # not a multiple of the processes, so that one of them runs out of rows


def launch(processes: int, *script: str, fsdp: bool = False):
    command, environment = launcher(processes, fsdp=fsdp)
    return subprocess.run(
        [*command, *script], env=environment, capture_output=True, text=True, check=False
    )


def in_one_process(device, folder):
    """The gradients of a step in one forward, and of the step in micro-batches."""
    done = launch(1, str(HERE / "gradients.py"), device, str(folder), ROWS, "7", "2")
    assert done.returncode == 0, done.stderr
    return joined(folder, "micro-7"), joined(folder, "micro-2")


def joined(folder, name):
    """What all processes have written, the parts of each tensor one after another."""
    parts = [load_file(file) for file in sorted(folder.glob(f"{name}.*.safetensors"))]
    assert all(part.keys() == parts[0].keys() for part in parts)
    found = {key: [part[key] for part in parts if part[key].numel()] for key in parts[0]}
    return {key: some[0] if len(some) == 1 else torch.cat(some) for key, some in found.items()}


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return in_one_process("cpu", tmp_path_factory.mktemp("one"))


def same(found, whole, rounding=1e-5):
    """Equal up to float32 rounding of the largest gradient: entries near 0 are only rounding."""
    assert found.keys() == whole.keys()
    largest = {}
    for key, gradient in whole.items():
        case = key.rsplit("/", 1)[0]
        largest[case] = max(largest.get(case, 0.0), float(gradient.abs().max()))
    assert len(largest) == sum(len(objectives_of(family)) for family in ARCHITECTURES)
    for key, gradient in whole.items():
        limit = rounding * largest[key.rsplit("/", 1)[0]]
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=limit, msg=key)


@pytest.mark.parametrize("device", DEVICES)
def test_micro_batches_of_one_process(one, tmp_path, device):
    if device == "cpu":
        same(one[1], one[0])
        return
    for gradients in in_one_process(device, tmp_path):
        same(gradients, one[0], rounding=1e-4)


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp2"])
def test_two_processes_leave_out_a_step_that_is_not_finite(fsdp):
    done = launch(2, str(HERE / "skipping.py"), fsdp=fsdp)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp2"])
def test_two_processes_take_the_step_of_one(one, tmp_path, fsdp):
    done = launch(2, str(HERE / "gradients.py"), "cpu", str(tmp_path), ROWS, "4", "1", fsdp=fsdp)
    assert done.returncode == 0, done.stderr
    for name in ("micro-4", "micro-1"):
        same(joined(tmp_path, name), one[0])
