"""What `limbeck doctor` finds, on machines that are made up and on this one."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from limbeck.system import linux
from limbeck.system.checkup import packages as packages_module
from limbeck.system.checkup.examined import examination_tables, examine
from limbeck.system.checkup.findings import findings
from limbeck.system.checkup.machine import Machine, Torch, examine_machine
from limbeck.system.checkup.packages import Extra, Package, installed_packages
from limbeck.system.checkup.places import folder_bytes, hugging_face_home, places

TORCH = Torch("2.13", "processor", "cpu", "a CPU", "bfloat16", "it has it", "VNNI", False, 4)
MACHINE = Machine("Linux", 4, None, (9 * 10**9, 16 * 10**9), False, TORCH)
FINE = Package("numpy", ">=1.26", "2.0", True)
SLOW = replace(TORCH, precision="float32", reason="the processor has no bfloat16 instructions")
CUDA = replace(TORCH, built_for="CUDA 13.0", said="driver too old")


def found(machine=MACHINE, packages=(FINE,), extras=(), stored=(), environment=None):
    some = findings(machine, packages, extras, stored, environment or {})
    return [(finding.problem, f"{finding.found} -> {finding.change}") for finding in some]


def test_a_machine_without_problems_has_no_findings():
    assert found() == []


@pytest.mark.parametrize(
    ("problem", "said", "given"),
    [
        (True, "torch cannot be imported: no libc", {"torch": None, "torch_error": "no libc"}),
        (False, "no driver of NVIDIA is there (driver too old)", {"torch": CUDA}),
        (True, "cannot use it (driver too old)", {"torch": CUDA, "nvidia": True}),
        (True, "built for processors alone", {"nvidia": True}),
        (False, "bfloat16 is slow here", {"torch": SLOW}),
        (False, "7-bit weights", {"torch": replace(TORCH, reduced=True, int8="7-bit weights")}),
        (True, "export OMP_NUM_THREADS=2", {"limit": 1.5}),
        (True, "export OMP_NUM_THREADS=1", {"processors": 1}),
        (True, "1.5 GB of memory are free", {"memory": (1_500_000_000, 16 * 10**9)}),
    ],
)
def test_what_is_said_of_a_machine(problem, said, given):
    (one,) = found(replace(MACHINE, **given))
    assert one[0] is problem and said in one[1]


def test_a_gpu_that_is_used_is_no_finding():
    on_gpu = replace(CUDA, device="cuda", gpu_bytes=(10**10, 10**10))
    assert found(replace(MACHINE, torch=on_gpu, nvidia=True)) == []
    without = replace(on_gpu, kernels=False)
    (one,) = found(replace(MACHINE, torch=without, nvidia=True))
    assert one[0] and "pip install triton" in one[1]


def test_threads_that_were_limited_on_purpose():
    machine = replace(MACHINE, torch=replace(TORCH, threads=1))
    (one,) = found(machine, environment={"OMP_NUM_THREADS": "1"})
    assert not one[0] and "1 of 4 processors" in one[1]
    assert found(machine) == []  # hardware threads of one core are not all used


def test_packages_that_do_not_suit():
    old = Package("torchao", ">=0.18", "0.9", False)
    missing = Package("gguf", ">=0.19", None, False)
    extras = [
        Extra("quantize", [old], "pip install 'limbeck[quantize]'"),
        Extra("gguf", [missing], "pip install 'limbeck[gguf]'"),
    ]
    said = found(packages=[Package("torch", ">=2.6", "2.1", False)], extras=extras)
    assert [one[0] for one in said] == [True, True]  # an extra that is missing is no problem
    assert "torch is 2.1" in said[0][1] and "limbeck[quantize]" in said[1][1]
    ((problem, text),) = found(packages=[])
    assert not problem and "pip install -e ." in text


def test_folders_that_cannot_be_written_or_are_full(monkeypatch, tmp_path):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    stored = places({"HF_HOME": str(tmp_path)}, tmp_path)
    assert found(stored=[replace(one, free_bytes=10**12) for one in stored]) == []
    full = replace(stored[0], free_bytes=10**9)
    locked = replace(stored[1], writable=False, free_bytes=10**12)
    said = found(stored=[full, locked])
    assert "1.0 GB of disk are free" in said[0][1] and "LIMBECK_CACHE" in said[0][1]
    assert "cannot be written" in said[1][1] and "HF_HUB_CACHE" in said[1][1]
    monkeypatch.setattr("tempfile.TemporaryFile", refuses)
    assert not any(one.writable for one in places({}, tmp_path))


def refuses(**_):
    raise OSError(30, "Read-only file system")


def test_where_the_hub_is_not_asked(tmp_path):
    stored = places({"HF_HUB_CACHE": str(tmp_path / "hub")}, tmp_path)
    stored = [replace(one, free_bytes=10**12) for one in stored]
    ((problem, said),) = found(stored=stored, environment={"HF_HUB_OFFLINE": "1"})
    assert not problem and str(tmp_path / "hub") in said
    assert found(environment={"HF_HUB_OFFLINE": "0"}) == []


@pytest.mark.parametrize("given", [{}, {"HF_HOME": "/x"}, {"XDG_CACHE_HOME": "/y"}])
def test_the_hubs_folder_is_where_the_hubs_library_has_it(given):
    left = {name: v for name, v in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    program = "from huggingface_hub.constants import HF_HOME; print(HF_HOME)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**left, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == hugging_face_home(given)


def test_kept_signals_and_sizes(tmp_path):
    (tmp_path / "study" / "signals").mkdir(parents=True)
    (tmp_path / "study" / "signals" / "a.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "kept").mkdir()
    manifest = '{"format": 4, "kind": {}, "identity": {}}'
    (tmp_path / "kept" / "manifest.json").write_text(manifest)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text("[")
    signals = [one for one in places({}, tmp_path) if one.what == "kept signals"]
    assert [(Path(one.path).name, one.held_bytes) for one in signals] == [
        ("kept", len(manifest)),
        ("signals", 1000),
    ]
    assert folder_bytes(tmp_path, seconds=-1.0)[1] is False
    assert folder_bytes(tmp_path / "nowhere") == (0, True)


def test_what_is_installed_is_read_from_the_metadata(monkeypatch):
    always, extras = installed_packages()
    assert {"torch", "transformers"} <= {package.name for package in always}
    assert all(package.suits for package in always)
    assert "dev" not in {extra.name for extra in extras}
    onnx = next(extra for extra in extras if extra.name == "onnx")
    assert {package.name for package in onnx.packages} == {"onnx", "onnxruntime", "onnxscript"}
    assert onnx.install == "pip install 'limbeck[onnx]'"

    def nowhere(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages_module, "requires", nowhere)
    assert installed_packages() == ([], [])


def test_a_torch_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "limbeck.system.device")
    machine = examine_machine()
    assert machine.torch is None and "torch" in machine.torch_error


def test_this_machine(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = examine()
    assert "hf_secret" not in str(found.to_json()) and found.environment["HF_TOKEN"] == "set"
    headings = [heading for heading, _ in examination_tables(found)]
    assert headings[-4:] == ["Versions", "Extras", "Folders", "Environment"]
    assert found.machine.torch.precision in ("bfloat16", "float32")


def test_limits_of_a_container(monkeypatch, tmp_path):
    monkeypatch.setattr(linux, "_CGROUP", tmp_path)
    assert linux.processor_limit() is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert linux.processor_limit() is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert linux.processor_limit() == 1.5
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    if linux.available_memory():
        assert linux.available_memory() == (600_000, 1_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert linux.available_memory() != (600_000, 1_000_000)
    monkeypatch.setattr(linux, "_PROC", tmp_path)
    assert linux.available_memory() is None
