"""Device, precision, processes and trackers of a run, by accelerate."""

import os
from functools import cache
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ..recipe.schema import TrainingPart
from ..system.device import choose_device, choose_precision


def build_accelerator(training: TrainingPart, folder: Path | str) -> Accelerator:
    """The accelerator of a run, whatever one before it in this process was like.

    A process group that was there before, as Ray Train's workers have one, is used, and is still
    there when the run has ended.

    Args:
        training: Device, precision and trackers.
        folder: Of the run; trackers write there.
    """
    if _group_was_there():
        # What accelerate's own launchers set, so that `end_training` leaves the group to its maker.
        os.environ["FORK_LAUNCHED"] = "1"
    # Accelerate keeps one state a process, and refuses a second one of another precision; it has no
    # public way to start over. tests/run/test_accelerator.py fails when this one goes.
    AcceleratorState._reset_state()
    device = choose_device(training.device)
    precision = choose_precision(training.precision, device)
    found = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if precision.half else "no",
        log_with=list(training.report_to) or None,
        project_dir=str(folder),
    )
    if device.type == "cpu":
        # To a launcher's processes it is `cpu:0`, which safetensors and packed weights of torch do
        # not know.
        found.state.device = device
    return found


@cache
def _group_was_there() -> bool:
    """Whether there was a process group before the first run of this process."""
    return torch.distributed.is_initialized()
