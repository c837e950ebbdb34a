"""The workers of a study: processes that each take the next training that no other has taken.

A worker is the same command in a process of its own, with its share of the threads and its GPU.
It ends with the process that started it.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from ..errors import InterruptedRunError, TrainingError
from ..system.threads import shared_threads
from ..training.interrupt import interruptible
from .arms import ArmRun

_SECONDS_BETWEEN_LOOKS = 0.5
_LAST_LINES, _SECONDS_OF_LAST_LINES = 40, 5.0
_STARTED = re.compile(r"(?:search, )?\d+ of \d+: (.+)")
# With these rich would draw bars into what is read here.
_OF_TERMINALS = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    number = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return [name.strip() for name in named if name.strip()][:number] or [*map(str, range(number))]


def default_processes(runs: Sequence[ArmRun]) -> int:
    """How many processes train at once by default: one a GPU where a training uses it, else one."""
    on_gpu = any(run.setup.device.type == "cuda" for run in runs)
    return max(1, len(visible_gpus())) if on_gpu else 1


def work(folder: Path, number: int, console: Console, look: Callable[[], None]) -> None:
    """Carry out a study by several workers; returns when they find nothing that is left.

    Args:
        folder: The study's, with its ``study.yaml``.
        number: Of workers.
        console: For their lines.
        look: Called again and again while they work.

    Raises:
        InterruptedRunError: Ctrl-C or SIGTERM has come; trainings have saved a checkpoint.
        TrainingError: A worker failed, and all others were stopped.
    """
    gpus = visible_gpus()
    workers: list[_Worker] = []
    with interruptible() as stopped:
        try:
            for place in range(number):
                gpu = gpus[place % len(gpus)] if gpus else None
                workers.append(_Worker.start(place + 1, number, gpu, folder, console))
            while not stopped():
                ended = [worker.process.poll() for worker in workers]
                if any(ended):  # with another exit code than 0
                    break
                look()
                if None not in ended:
                    return
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            failed = [worker for worker in workers if worker.process.poll()]
        finally:
            _end(workers)
    look()  # what has ended meanwhile is reported
    if stopped():
        raise InterruptedRunError(
            f"{len(workers)} workers were stopped; run the same command again to resume"
        )
    raise TrainingError("\n".join(worker.failure() for worker in failed))


@dataclass
class _Worker:
    """A process, and what it has said.

    Attributes:
        name: For people.
        process: Its output is read by a thread.
        console: Where its lines are shown.
        at: The training that it has begun last.
        lines: The last that it has printed.
        reader: The thread that reads them.
    """

    name: str
    process: subprocess.Popen[str]
    console: Console
    at: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    reader: threading.Thread | None = None

    @classmethod
    def start(
        cls, place: int, number: int, gpu: str | None, folder: Path, console: Console
    ) -> "_Worker":
        """Start one of some workers."""
        command = [sys.executable, "-m", "limbeck", "compare", str(folder / "study.yaml")]
        command += ["--output", str(folder), "--num-processes", "1", "--worker"]
        process = subprocess.Popen(
            command,
            env=worker_environment(os.environ, gpu, number),
            stdin=subprocess.PIPE,  # it ends when this process closes it, in whatever way
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C comes to this process alone, which ends the workers
        )
        name = f"worker {place}" if gpu is None else f"worker {place} (GPU {gpu})"
        worker = cls(name, process, console)
        worker.reader = threading.Thread(target=worker._read, daemon=True)
        worker.reader.start()
        return worker

    def _read(self) -> None:
        """Show every line of the process, and note which training it is at."""
        for line in self.process.stdout or ():
            self.lines.append(line.rstrip())
            if started := _STARTED.match(line):
                self.at = started[1].strip()
            text = f"{self.name}: {line.rstrip()}"
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Read the last lines of a process that has ended, and close its pipes."""
        if self.process.stdin:
            self.process.stdin.close()
        if self.reader:
            # Processes that a killed worker had started may hold its output open.
            self.reader.join(_SECONDS_OF_LAST_LINES)
            if self.process.stdout and not self.reader.is_alive():
                self.process.stdout.close()

    def failure(self) -> str:
        """How the process has ended, and the error that it has printed."""
        code, where = self.process.returncode, f" at {self.at}" if self.at else ""
        if code < 0:
            why = "; perhaps there is not enough memory for so many" if code == -9 else ""
            return (
                f"{self.name} was ended by signal {-code}{where}{why}. All others were stopped; run"
                " the same command again to resume"
            )
        said, error = [*self.lines], "error: "
        places = [place for place, line in enumerate(said) if line.startswith(error)]
        said = said[places[0] :] if places else said[-5:]
        message = "\n".join(said).removeprefix(error)
        return f"{self.name} failed{where}, and all others were stopped:\n{message}"


def worker_environment(
    environment: Mapping[str, str], gpu: str | None, number: int
) -> dict[str, str]:
    """The environment of one of some workers: its GPU, and its share of the threads.

    Args:
        environment: Of this process.
        gpu: Its name; None leaves all of them visible.
        number: Of workers.
    """
    found = {name: value for name, value in environment.items() if name not in _OF_TERMINALS}
    found |= {"OMP_NUM_THREADS": str(shared_threads(number)), "COLUMNS": "1000"}
    found["PYTHONIOENCODING"] = "utf-8"  # as its lines are read
    if gpu is not None:
        found["CUDA_VISIBLE_DEVICES"] = gpu
    return found


def _end(workers: Sequence[_Worker]) -> None:
    """Stop all workers; those that train save a checkpoint. A second Ctrl-C ends them at once."""
    try:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.terminate()
        for worker in workers:
            worker.process.wait()
    except BaseException:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
        raise
    finally:
        for worker in workers:
            worker.close()
