"""What a run needs to go on as if it had never stopped, written whole or not at all.

Weights, projections and the optimizer's moments are safetensors; where the run
stands and the random state are JSON. A checkpoint is written under another name
and renamed when it is complete, and only then is the one before it removed.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import TrainingError

_PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Position:
    """Where a run stands: steps done in a stage, and what has been spent so far.

    The position in the data and in the schedule is the step itself.
    """

    stage: int
    step: int
    tokens: int
    seconds: float


def save_checkpoint(
    folder: Path,
    position: Position,
    learner: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    batches: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint; earlier ones are removed once it is whole.

    Args:
        folder: The run's ``state``.
        position: Where the run stands.
        learner: Its parameters are saved, tied ones once.
        optimizer: None between stages: the next stage starts with a fresh one.
        batches: What later batches take from earlier ones.

    Raises:
        TrainingError: It could not be written, as when the disk is full; the
            checkpoint before it is untouched.
    """
    final = folder / f"{_PREFIX}{position.stage:03d}-{position.step:09d}"
    part = folder / f"{final.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file(_parameters(learner), part / "learner.safetensors")
        if optimizer is not None:
            save_file(_moments(learner, optimizer), part / "optimizer.safetensors")
        if batches:
            save_file(dict(batches), part / "batches.safetensors")
        save_file(_random_state(), part / "random.safetensors")
        (part / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
        for file in part.iterdir():
            _flush(file)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise TrainingError(
            f"the checkpoint at step {position.step} could not be written to {folder}: {error}."
            " Earlier checkpoints are whole; make room and run the same command again"
        ) from error
    for old in folder.glob(f"{_PREFIX}*"):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The furthest whole checkpoint of a run, if there is one."""
    whole = [p for p in folder.glob(f"{_PREFIX}*") if p.suffix != ".part"]
    return max(whole, default=None, key=lambda path: path.name)


def read_position(checkpoint: Path) -> Position:
    """Where the run stood when the checkpoint was written."""
    return Position(**json.loads((checkpoint / "position.json").read_text(encoding="utf-8")))


def load_learner(checkpoint: Path, learner: nn.Module, *, student_only: bool) -> None:
    """Put the checkpoint's weights into the learner.

    Args:
        checkpoint: As `latest_checkpoint` gives it.
        learner: Changed in place.
        student_only: For the start of another stage, whose projections are its own.

    Raises:
        TrainingError: The checkpoint is of another student.
    """
    saved = load_file(checkpoint / "learner.safetensors")
    for name, parameter in _parameters(learner).items():
        if student_only and not name.startswith("student."):
            continue
        if name not in saved or saved[name].shape != parameter.shape:
            raise TrainingError(
                f"{checkpoint} is of another student: {name} is {tuple(parameter.shape)} here"
                f" and {tuple(saved[name].shape) if name in saved else 'missing'} there; use"
                " another run folder, or the recipe that it was started with"
            )
        with torch.no_grad():
            parameter.copy_(saved[name])


def load_optimizer(checkpoint: Path, learner: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the checkpoint's moments and random state in place."""
    saved = load_file(checkpoint / "optimizer.safetensors")
    by_name = dict(_named(learner))
    for key, tensor in saved.items():
        name, kind = key.rsplit("/", 1)
        parameter = by_name[name]
        device = "cpu" if kind == "step" and not parameter.is_cuda else parameter.device
        optimizer.state[parameter][kind] = tensor.to(device)
    state = load_file(checkpoint / "random.safetensors")
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state[k] for k in sorted(state) if k.startswith("cuda")])


def load_batches(checkpoint: Path) -> dict[str, Tensor]:
    """What later batches take from earlier ones."""
    file = checkpoint / "batches.safetensors"
    return load_file(file) if file.exists() else {}


def _named(learner: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(learner.named_parameters())  # names tied parameters once


def _parameters(learner: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in _named(learner)}


def _moments(learner: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{kind}": tensor
        for name, parameter in _named(learner)
        for kind, tensor in optimizer.state.get(parameter, {}).items()
    }


def _random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states = torch.cuda.get_rng_state_all()
        state |= {f"cuda{number:03d}": value for number, value in enumerate(states)}
    return state


def _flush(file: Path) -> None:
    """Let the disk have it before the rename says that it is whole."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
