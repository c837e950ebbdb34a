"""Which device is used, in which precision, and why.

bfloat16 is faster only where the device multiplies it in hardware. Elsewhere it is emulated: on a
processor with AVX2 alone a whole training step ran 14 times slower than in float32.
"""

import os
import platform
import shutil
import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch

from ..errors import DeviceError
from .choices import DeviceChoice, PrecisionChoice
from .linux import processor_model

_BF16_OF_PROCESSORS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # x86-64 and ARM
_SHOWN_OF_PROCESSORS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "neon", "bf16", "sve_bf16")
# oneDNN's names of the instruction sets without bfloat16. ONEDNN_MAX_CPU_ISA limits it to one of
# them, whatever the processor has.
_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
_FIRST_CUDA_WITH_BF16 = (8, 0)  # Ampere
_PROBE_WIDTH, _PROBE_REPEATS = 512, 3


@dataclass(frozen=True)
class Precision:
    """The precision of forwards and backwards, and why it was chosen."""

    name: Literal["bfloat16", "float32"]
    reason: str

    @property
    def half(self) -> bool:
        """Whether matrix products are in bfloat16."""
        return self.name == "bfloat16"


def choose_device(choice: DeviceChoice = "auto") -> torch.device:
    """The device of a name; ``auto`` takes CUDA, then Apple's mps, then the processor.

    Raises:
        DeviceError: torch does not find the named device.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if choice == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    if not there[choice]:
        found = ", ".join(name for name, found in there.items() if found)
        raise DeviceError(f"device is {choice}, which torch does not find; use auto or {found}")
    return torch.device(choice)


def choose_precision(choice: PrecisionChoice, device: torch.device) -> Precision:
    """The precision of a name; ``auto`` is bfloat16 where the device multiplies it in hardware."""
    has, reason = bf16_in_hardware(device)
    if choice == "auto":
        return Precision("bfloat16" if has else "float32", reason)
    return Precision(choice, "as the recipe says")


def bf16_in_hardware(device: torch.device) -> tuple[bool, str]:
    """Whether the device multiplies bfloat16 in hardware, and the reason for the answer."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        name = f"{torch.cuda.get_device_name(device)}, compute capability {_dotted(capability)}"
        has = capability >= _FIRST_CUDA_WITH_BF16
        return has, f"{name}, {'multiplies' if has else 'does not multiply'} bfloat16 in hardware"
    if device.type != "cpu":
        return False, f"torch does not tell whether {device.type} multiplies bfloat16 in hardware"
    found = [name for name in _BF16_OF_PROCESSORS if torch.cpu.get_capabilities().get(name)]
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if found and limit in _WITHOUT_BF16:
        return False, f"ONEDNN_MAX_CPU_ISA={limit} leaves bfloat16 to be emulated"
    if found:
        return True, f"the processor multiplies bfloat16 in hardware ({', '.join(found)})"
    return False, "the processor has no bfloat16 instructions, so it would be emulated"


@cache
def has_triton() -> bool:
    """Whether kernels written in Triton can be built: it needs a C compiler."""
    compilers = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return find_spec("triton") is not None and any(map(shutil.which, compilers))


def emulation_warning(precision: Precision, device: torch.device) -> str | None:
    """A warning that the requested bfloat16 is emulated, with the measured slowdown; else None."""
    if not precision.half or bf16_in_hardware(device)[0]:
        return None
    ratio = bf16_time_ratio(device)
    return (
        f"precision is bfloat16, which {device.type} emulates: a product of matrices takes"
        f" {ratio:.1f} times as long as in float32 here; use precision: auto or float32"
    )


@cache
def bf16_time_ratio(device: torch.device) -> float:
    """The time of a matrix product in bfloat16, divided by its time in float32."""
    return _product_seconds(device, torch.bfloat16) / _product_seconds(device, torch.float32)


def _product_seconds(device: torch.device, dtype: torch.dtype) -> float:
    """The time of the fastest of a few products, without the first, which warms up."""
    matrix = torch.ones(_PROBE_WIDTH, _PROBE_WIDTH, dtype=dtype, device=device)
    times = []
    for _ in range(1 + _PROBE_REPEATS):
        began = time.perf_counter()
        (matrix @ matrix).sum().item()  # waits until the device is done
        times.append(time.perf_counter() - began)
    return min(times[1:])


def sums_dtype(device: torch.device) -> torch.dtype:
    """The precision in which figures of many steps and processes are summed on a device."""
    return torch.float32 if device.type == "mps" else torch.float64  # mps has no float64


def describe_device(device: torch.device) -> str:
    """The name of the processor or GPU, for tables of results.

    A processor is described with its threads and the instructions that decide how fast it
    multiplies.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return f"{device.type}, {platform.processor() or platform.machine()}"
    there = torch.cpu.get_capabilities()
    shown = ", ".join(name for name in _SHOWN_OF_PROCESSORS if there.get(name))
    limits = [
        f"{name}={os.environ[name]}"
        for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
        if os.environ.get(name)
    ]
    number = torch.get_num_threads()
    facts = ["1 thread" if number == 1 else f"{number} threads", shown, *limits]
    return f"{_processor_name()} ({'; '.join(fact for fact in facts if fact)})"


@cache
def _processor_name() -> str:
    return processor_model() or platform.processor() or platform.machine()


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
