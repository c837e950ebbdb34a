"""The device, the processor and the memory, as torch and the system tell of them."""

import platform
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...errors import first_line
from ..linux import available_memory, processor_limit
from ..threads import usable_processors


class Meaning(NamedTuple):
    """What an instruction set of processors is good for."""

    name: str
    use: str


_X86 = (
    Meaning("avx2", "vector arithmetic"),
    Meaning("avx512_f", "vector arithmetic, twice as wide"),
    Meaning("avx512_bf16", "training in bfloat16"),
    Meaning("amx_bf16", "training in bfloat16, fastest"),
    Meaning("avx512_vnni", "files in 8 bits, exact and fast"),
    Meaning("avx_vnni", "files in 8 bits, exact and fast"),
    Meaning("amx_int8", "files in 8 bits, fastest"),
)
_ARM = (
    Meaning("neon", "vector arithmetic"),
    Meaning("bf16", "training in bfloat16"),
    Meaning("sve_bf16", "training in bfloat16"),
    Meaning("i8mm", "files in 8 bits"),
)


@dataclass(frozen=True)
class Torch:
    """What torch says of this machine.

    Attributes:
        version: Of torch.
        built_for: CUDA with its version, ROCm with its, or processor.
        device: That `auto` takes: cuda, mps or cpu.
        device_name: Of the GPU or processor.
        precision: That `auto` takes: bfloat16 or float32.
        reason: Why it takes it.
        int8: How exported files in 8 bits are rounded here.
        reduced: Whether they have 7 bits.
        threads: That compute.
        gpu_bytes: Free and total memory of the GPU; None without one.
        said: What torch warned of while it looked for a GPU; empty where it did not.
        instructions: Instruction sets of the processor, and whether it has each.
        kernels: Whether kernels for the GPU can be built.
    """

    version: str
    built_for: str
    device: str
    device_name: str
    precision: str
    reason: str
    int8: str
    reduced: bool
    threads: int
    gpu_bytes: tuple[int, int] | None = None
    said: str = ""
    instructions: dict[str, bool] = field(default_factory=dict)
    kernels: bool = True


@dataclass(frozen=True)
class Machine:
    """What is computed on.

    Attributes:
        system: Operating system and kind of processor.
        processors: That this process may use.
        limit: Processors that its container may use, as 1.5; None without a limit.
        memory: Free bytes and all; None where the system does not tell.
        nvidia: Whether a driver or device of NVIDIA is there, whatever torch finds.
        torch: None where it cannot be imported.
        torch_error: Why it cannot; empty where it can.
    """

    system: str
    processors: int
    limit: float | None
    memory: tuple[int, int] | None
    nvidia: bool
    torch: Torch | None
    torch_error: str = ""


def examine_machine() -> Machine:
    """What can be found of this machine; nothing fails where something is not there."""
    try:
        torch, error = _torch(), ""
    except Exception as found:  # a broken installation fails in its own ways
        torch, error = None, first_line(found)
    return Machine(
        f"{platform.platform(terse=True)}, {platform.machine()}",
        usable_processors(),
        processor_limit(),
        available_memory(),
        any(map(Path.exists, map(Path, ("/dev/nvidia0", "/proc/driver/nvidia/version")))),
        torch,
        error,
    )


def uses() -> dict[str, str]:
    """What each instruction set is good for, of those that are told of this kind of processor."""
    arm = platform.machine().lower() in ("arm64", "aarch64")
    return dict(_ARM if arm else _X86)


def _torch() -> Torch:
    import torch

    from ..device import choose_device, choose_precision, describe_device, has_triton
    from ..int8_range import int8_range

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        device = choose_device()
        there = torch.cpu.get_capabilities()
    precision, rounding = choose_precision("auto", device), int8_range()
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "processor"
    if torch.version.hip:
        built = f"ROCm {torch.version.hip}"
    return Torch(
        str(torch.__version__),
        built,
        device.type,
        describe_device(device),
        precision.name,
        precision.reason,
        rounding.reason,
        rounding.reduced,
        torch.get_num_threads(),
        torch.cuda.mem_get_info() if device.type == "cuda" else None,
        first_line(caught[0].message) if caught and isinstance(caught[0].message, Warning) else "",
        {name: bool(there.get(name)) for name in uses()},
        has_triton(),
    )
