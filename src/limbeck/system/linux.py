"""What only Linux and its C library (glibc) offer; elsewhere every function here does nothing.

No portable interface gives the peak memory of one process, returns freed memory to the system or
keeps it, names the model of the processor, or tells the limits of a container; so /proc, cgroups
and glibc's mallopt are used directly.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
# Names and values of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def peak_resident_bytes() -> int | None:
    """The largest resident size of this process so far (VmHWM); None without /proc.

    The portable ru_maxrss does not do: Linux hands the parent's value down to its children, so a
    large parent would hide the peak of any model. VmHWM starts at zero with every program.
    """
    kibibytes = _field("self/status", "VmHWM")
    return None if kibibytes is None else 1024 * int(kibibytes.split()[0])


def resident_bytes() -> int | None:
    """The resident size of this process now (VmRSS); None without /proc."""
    kibibytes = _field("self/status", "VmRSS")
    return None if kibibytes is None else 1024 * int(kibibytes.split()[0])


def reset_peak_resident_bytes() -> bool:
    """Return freed memory to the system and reset the peak; False where that is not possible."""
    trim = _c_function("malloc_trim")
    if trim is None:
        return False
    trim(0)
    try:
        (_PROC / "self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


def keep_freed_memory() -> bool:
    """Let malloc keep freed memory for later allocations; False where the C library is not glibc.

    A training step frees and allocates the same large blocks again and again. Returning each of
    them to the system and mapping it again costs about a sixth of a step on a CPU
    (benchmarks/step.py measures it).
    """
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return False
    settings = {
        _MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD,
        _TRIM_THRESHOLD: 2**31 - 1,
        _TOP_PAD: 64 * 2**20,
    }
    return all(mallopt(name, value) for name, value in settings.items())


def processor_model() -> str | None:
    """The model name of the processor; None where /proc does not have it."""
    return _field("cpuinfo", "model name")


def available_memory() -> tuple[int, int] | None:
    """Bytes of memory that are free for new work, and all; None without /proc.

    In a container with a limit they are what the limit leaves.
    """
    free, total = _field("meminfo", "MemAvailable"), _field("meminfo", "MemTotal")
    if free is None or total is None:
        return None
    found = 1024 * int(free.split()[0]), 1024 * int(total.split()[0])
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, held = _number_in(_CGROUP / limit), _number_in(_CGROUP / used)
        if most is not None and held is not None and most < found[1]:
            return min(found[0], max(0, most - held)), most
    return found


def processor_limit() -> float | None:
    """Processors that a container may use, as 1.5; None without a limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    most = _number_in(_CGROUP / "cpu/cpu.cfs_quota_us")
    whole = _number_in(_CGROUP / "cpu/cpu.cfs_period_us")
    return most / whole if most and whole and most > 0 else None


def _number_in(file: Path) -> int | None:
    """The number that a file holds; None where it is not there, or holds a word such as max."""
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _field(file: str, name: str) -> str | None:
    """The value of the first line ``name: value`` of a file in /proc."""
    try:
        text = (_PROC / file).read_text(encoding="utf-8")
    except OSError:
        return None
    fields = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in fields if key.strip() == name), None)


def _c_function(name: str) -> Any:
    """A function of Linux's C library; None elsewhere, and where that library is not glibc."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
