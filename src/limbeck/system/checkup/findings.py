"""What is wrong with a machine or an installation, in plain words, with what to change."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .machine import Machine, Torch
from .packages import Extra, Package
from .places import Place

_LITTLE_DISK = 2e9  # bytes: a checkpoint of a student of 100M parameters takes 1.2 GB
_LITTLE_MEMORY = 2e9
_ON = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its variables


@dataclass(frozen=True)
class Finding:
    """Something worth knowing.

    Attributes:
        problem: Something does not work, or far slower than it could; else a note.
        found: What is so.
        change: What to do about it.
    """

    problem: bool
    found: str
    change: str


def findings(
    machine: Machine,
    packages: Sequence[Package],
    extras: Sequence[Extra],
    places: Sequence[Place],
    environment: Mapping[str, str],
) -> list[Finding]:
    """Problems first, then notes."""
    found = [
        *_of_packages(packages, extras),
        *_of_torch(machine),
        *_of_precision(machine.torch),
        *_of_threads(machine, environment),
        *_of_memory(machine),
        *_of_places(places),
        *_of_hub(environment, places),
    ]
    return sorted(found, key=lambda finding: not finding.problem)


def _of_packages(packages: Sequence[Package], extras: Sequence[Extra]) -> Iterator[Finding]:
    if not packages:
        yield Finding(
            False,
            "limbeck is run from its source and is not installed, so what it needs is not known",
            "install it: pip install -e .",
        )
    for package in packages:
        if not package.suits:
            has = "is not installed" if package.version is None else f"is {package.version}"
            yield Finding(
                True,
                f"{package.name} {has}, and limbeck needs {package.needed or 'it'}",
                f"pip install '{package.name}{package.needed}'",
            )
    for extra in extras:
        old = [p for p in extra.packages if p.version is not None and not p.suits]
        if old:
            names = ", ".join(f"{p.name} {p.version} (needs {p.needed})" for p in old)
            yield Finding(True, f"of the extra {extra.name}: {names}", extra.install)


def _of_torch(machine: Machine) -> Iterator[Finding]:
    torch = machine.torch
    if torch is None:
        yield Finding(
            True,
            f"torch cannot be imported: {machine.torch_error}",
            "reinstall it: pip install --force-reinstall torch (pytorch.org names the command for"
            " each system)",
        )
        return
    if torch.device == "cuda":
        if not torch.kernels:
            yield Finding(
                True,
                "GPU kernels cannot be built: Triton or a C compiler is missing, and relations and"
                " long stages are slower",
                "pip install triton, and install gcc (the package build-essential)",
            )
        return
    if torch.built_for.startswith("CUDA"):
        why = f" ({torch.said})" if torch.said else ""
        if machine.nvidia:
            yield Finding(
                True,
                f"a GPU of NVIDIA is there, and torch for {torch.built_for} cannot use it{why}",
                "update the driver, or install a torch for an older CUDA; in a container, start it"
                " with access to the GPU (docker run --gpus all)",
            )
        else:
            yield Finding(
                False,
                f"torch is built for {torch.built_for}, and no driver of NVIDIA is there{why}",
                "nothing, where there is no GPU (the build for processors is smaller: pip install"
                " torch --index-url https://download.pytorch.org/whl/cpu); else install the driver",
            )
    elif machine.nvidia and torch.built_for == "processor":
        yield Finding(
            True,
            "a GPU of NVIDIA is there, and this torch is built for processors alone",
            "install the build for CUDA: pip install --force-reinstall torch",
        )


def _of_precision(torch: Torch | None) -> Iterator[Finding]:
    if torch is None:
        return
    if torch.precision == "float32" and torch.device != "mps":
        yield Finding(
            False,
            f"bfloat16 is slow here: {torch.reason}; `auto` takes float32",
            "leave training.precision at auto, also in recipes that were written elsewhere",
        )
    if torch.device == "cpu" and torch.reduced:
        yield Finding(
            False,
            f"files in 8 bits: {torch.int8}",
            "nothing; they are exact on every processor, and a little less precise",
        )


def _of_threads(machine: Machine, environment: Mapping[str, str]) -> Iterator[Finding]:
    torch, usable = machine.torch, machine.processors
    if torch is None:
        return
    limit = usable if machine.limit is None else min(usable, max(1, round(machine.limit)))
    if torch.threads > limit:
        yield Finding(
            True,
            f"torch computes on {torch.threads} threads, and this process may use {limit}"
            " processors: threads that wait for each other make every step slower",
            f"export OMP_NUM_THREADS={limit}",
        )
    named = environment.get("OMP_NUM_THREADS")
    if named and torch.device == "cpu" and torch.threads < limit:
        yield Finding(
            False,
            f"torch computes on {torch.threads} of {limit} processors (OMP_NUM_THREADS={named})",
            "unset OMP_NUM_THREADS, unless other work needs the rest",
        )


def _of_memory(machine: Machine) -> Iterator[Finding]:
    if machine.memory and machine.memory[0] < _LITTLE_MEMORY:
        free = machine.memory[0] / 1e9
        yield Finding(
            True,
            f"{free:.1f} GB of memory are free",
            "end other programs, or take a smaller micro_batch_size and gradient_checkpointing:"
            " true (`limbeck plan` shows what a step takes)",
        )


def _of_places(places: Sequence[Place]) -> Iterator[Finding]:
    for place in places:
        move = f"set {place.variable} to another folder" if place.variable else "use another folder"
        if not place.writable:
            yield Finding(
                True,
                f"{place.path} ({place.what}) cannot be written",
                f"{move}, or give yourself the right to write there",
            )
        elif place.free_bytes is not None and place.free_bytes < _LITTLE_DISK:
            yield Finding(
                True,
                f"{place.free_bytes / 1e9:.1f} GB of disk are free at {place.path} ({place.what})",
                f"make room, or {move}",
            )


def _of_hub(environment: Mapping[str, str], places: Sequence[Place]) -> Iterator[Finding]:
    offline = [
        name
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        if environment.get(name, "").upper() in _ON
    ]
    if offline:
        hub = next((place.path for place in places if "models" in place.what), "the hub's cache")
        yield Finding(
            False,
            f"{offline[0]}={environment[offline[0]]}: nothing is downloaded, so hub names are"
            f" found only where {hub} has them",
            f"unset {' and '.join(offline)} to download models and datasets",
        )
