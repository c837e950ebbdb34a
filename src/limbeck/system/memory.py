"""What memory this process holds, and what becomes of memory that it frees."""

import ctypes
import sys
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]

# Names and values of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def peak_process_bytes() -> int | None:
    """The largest resident size of this program so far; None where it cannot be asked.

    Linux hands the parent's ru_maxrss down to its children, where a large
    parent would hide any model; VmHWM begins anew with the program.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    if kibibytes:
        return 1024 * kibibytes[0]
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_bytes(device: str) -> int | None:
    """The most held so far: by tensors on a GPU (``cuda``), else by this program."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_process_bytes()


def restart_peak() -> bool:
    """Give freed memory back and count peaks anew; False where Linux is not there to do it.

    Several trainings in one process would each report the largest of those before it.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except (AttributeError, OSError, TypeError):
        return False
    return True


def keep_freed_memory() -> bool:
    """Keep what is freed for what is asked next; False where the C library cannot be asked.

    A training step frees and asks for the same large blocks again and again; on
    Linux each return costs page problems, about a sixth of a step on a CPU
    (benchmarks/step.py measures it).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # not glibc
        return False
    settings = {
        _MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD,
        _TRIM_THRESHOLD: 2**31 - 1,
        _TOP_PAD: 64 * 2**20,
    }
    return all(mallopt(name, value) for name, value in settings.items())
