"""What one command takes, in a process of its own: seconds, time of the processor, peak memory."""

import os
import subprocess
import tempfile
import time
from pathlib import Path


def measured(command: list[str], cache: Path) -> dict[str, float]:
    """Seconds, seconds of the processor and peak bytes of a command."""
    environment = {**os.environ, "LIMBECK_CACHE": str(cache)}
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{said.read().decode()[-2000:]}")
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
    }
