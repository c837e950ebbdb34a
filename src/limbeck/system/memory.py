"""How much memory this process uses, and has used at most, on the processor or on a GPU."""

import sys

import torch

from . import linux

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]


def peak_process_bytes() -> int | None:
    """The largest resident size of this process so far; None where the system does not tell."""
    if (peak := linux.peak_resident_bytes()) is not None:
        return peak
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_bytes(device: str) -> int | None:
    """The peak memory so far: of the tensors on a GPU (``cuda``), else of this process."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_process_bytes()


def held_bytes(device: str) -> int | None:
    """The memory in use now: of the tensors on a GPU (``cuda``), else of this process."""
    return torch.cuda.memory_allocated() if device == "cuda" else linux.resident_bytes()


def restart_peak() -> bool:
    """Free what can be freed and reset the peaks; False where the process peak cannot be reset.

    Without it, several trainings in one process would each report the peak of the largest of them.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return linux.reset_peak_resident_bytes()
