"""Seconds, losses and memory of training steps, measured alike for every package.

It needs torch and nothing else, because it runs in environments with other versions of the rest.
"""

import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

WARM_UP = 2  # steps that are not counted
_LINUX = Path(__file__).parents[1] / "src/limbeck/system/linux.py"


def _linux() -> ModuleType:
    """What limbeck asks Linux, by its file: the package would load hooks of its transformers."""
    spec = spec_from_file_location("linux", _LINUX)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{_LINUX} is missing; run this from a checkout of limbeck")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Clock:
    """Counts steps from when both models are loaded.

    Attributes:
        losses: Of each step, as the package gives them.
    """

    def __init__(self, device: str) -> None:
        """Steps on ``cpu`` or ``cuda``."""
        self.losses: list[Tensor] = []
        self._device, self._linux = device, _linux()
        self._seconds: list[float] = []
        self._processor: list[float] = []

    def begin(self) -> None:
        """The models are loaded, and the first step follows."""
        if self._device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._held = torch.cuda.memory_allocated()
        else:
            self._linux.reset_peak_resident_bytes()
            self._held = self._linux.resident_bytes() or 0
        self._since = time.perf_counter(), time.process_time()

    def tick(self) -> None:
        """A step is over."""
        if self._device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter(), time.process_time()
        self._seconds.append(now[0] - self._since[0])
        self._processor.append(now[1] - self._since[1])
        self._since = now

    def result(self, steps: int) -> dict[str, Any]:
        """What was measured of so many steps; the first `WARM_UP` are not timed.

        Returns:
            Seconds of the timed steps by the clock and of processor time (all threads together),
            the peak in bytes above the loaded models and in all, and the losses of all steps.
        """
        peak = (
            torch.cuda.max_memory_allocated()
            if self._device == "cuda"
            else self._linux.peak_resident_bytes() or 0
        )
        return {
            "seconds": sum(self._seconds[WARM_UP:steps]),
            "processor_seconds": sum(self._processor[WARM_UP:steps]),
            "bytes": peak - self._held,
            "whole_bytes": peak,
            "losses": [float(loss) for loss in self.losses[:steps]],
        }
