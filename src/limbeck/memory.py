"""How much memory this process has held at most."""

import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]


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
