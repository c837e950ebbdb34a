"""Keeps freed memory for the next step instead of giving it back to the system.

A training step frees and asks for the same large blocks again and again; on
Linux each return costs page faults, about a sixth of a step on a CPU
(benchmarks/step.py measures it). Elsewhere nothing happens.
"""

import ctypes
import sys

# Names and values of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed; False where it cannot be asked."""
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
