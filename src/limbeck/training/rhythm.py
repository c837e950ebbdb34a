"""What all stages of a run share: its folder, its processes, how often it logs and saves."""

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console


@dataclass(frozen=True)
class Rhythm:
    """How often, in steps, the loop logs, measures and saves.

    Attributes:
        log: Steps between records in log.jsonl. Every checkpoint has a record too, so that no
            record is a mean over steps before and after a checkpoint: a resumed run knows only
            the steps after it.
        held_out: Steps between measurements on held-out text, which is also measured before the
            first step and after the last.
        checkpoint: Steps between checkpoints; there is one at Ctrl-C and at the end of a stage
            too.
        keep: How many of the last checkpoints are kept.
    """

    log: int = 20
    held_out: int = 200
    checkpoint: int = 200
    keep: int = 2


@dataclass(frozen=True)
class RunContext:
    """What all stages of a run share.

    Attributes:
        folder: The run folder.
        accelerator: Device, precision and processes.
        console: Console of the progress bar.
        rhythm: When to log, measure and checkpoint.
    """

    folder: Path
    accelerator: Accelerator
    console: Console
    rhythm: Rhythm
