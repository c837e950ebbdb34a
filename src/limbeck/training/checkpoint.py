"""What a run needs to go on as if it had never stopped, written whole or not at all.

Weights, projections and the optimizer's moments are safetensors; where the run
stands is JSON, with a checksum of every other file. Chance needs no state: it
hangs on the seed and the step. A checkpoint is written under another name and
renamed when it is complete, and only then are older ones removed.
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
from ..system.files import checksum, give_usual_mode
from .processes import have_own_share, shares_like, whole

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
    *,
    keep: int = 1,
    write: bool = True,
) -> Path:
    """Write a checkpoint; older ones are removed once it is whole.

    Args:
        folder: The run's ``state``.
        position: Where the run stands.
        learner: Its parameters are saved, tied ones once.
        optimizer: None between stages: the next stage starts with a fresh one.
        batches: What later batches take from earlier ones.
        keep: How many checkpoints are left.
        write: Whether this process is the one that writes; every process has to call, for
            each may keep a share of what is written.

    Raises:
        TrainingError: It could not be written, as when the disk is full; the
            checkpoint before it is untouched.
    """
    final = folder / f"{_PREFIX}{position.stage:03d}-{position.step:09d}"
    files = {"learner": _parameters(learner)}
    if optimizer is not None:
        files["optimizer"] = _moments(learner, optimizer)
    if batches:
        files["batches"] = dict(batches)
    if not write:
        return final
    part = folder / f"{final.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        sums = {}
        for name, tensors in files.items():
            file = part / f"{name}.safetensors"
            save_file(tensors, file)
            give_usual_mode(file)
            sums[file.name] = checksum(file)
        facts = {"position": asdict(position), "blake2b": sums}
        (part / "checkpoint.json").write_text(json.dumps(facts), encoding="utf-8")
        for file in part.iterdir():
            _flush(file)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise TrainingError(
            f"the checkpoint at step {position.step} could not be written to {folder}: {error}."
            " Earlier checkpoints are whole; make room and run the same command again"
        ) from error
    for old in _checkpoints(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def latest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The furthest whole checkpoint of a run, if there is one, and what is wrong with later ones.

    Raises:
        TrainingError: There are checkpoints, but none is whole.
    """
    problems: list[str] = []
    for checkpoint in _checkpoints(folder):
        problem = _problem(checkpoint)
        if problem is None:
            return checkpoint, problems
        problems.append(f"{checkpoint} is damaged and is not used: {problem}")
    if problems:
        raise TrainingError(
            "; ".join(problems)
            + f". No checkpoint before it is left; remove {folder} to begin anew"
        )
    return None, []


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first; half-written ones are left out."""
    found = [p for p in folder.glob(f"{_PREFIX}*") if p.suffix != ".part"]
    return sorted(found, key=lambda path: path.name, reverse=True)


def _problem(checkpoint: Path) -> str | None:
    """What keeps a checkpoint from being used."""
    try:
        read_position(checkpoint)
        facts = json.loads((checkpoint / "checkpoint.json").read_text(encoding="utf-8"))
        for name in ("learner.safetensors", *facts["blake2b"]):
            if checksum(checkpoint / Path(name).name) != facts["blake2b"][name]:
                return f"{name} does not have the checksum that it was written with"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "checkpoint.json is not what was written"
    return None


def read_position(checkpoint: Path) -> Position:
    """Where the run stood when the checkpoint was written."""
    facts = json.loads((checkpoint / "checkpoint.json").read_text(encoding="utf-8"))
    return Position(**facts["position"])


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
    """Put the checkpoint's moments in place."""
    saved = load_file(checkpoint / "optimizer.safetensors")
    by_name = dict(_named(learner))
    for key, tensor in saved.items():
        name, kind = key.rsplit("/", 1)
        parameter = by_name[name]
        same = tensor.shape == parameter.shape
        here = tensor.to(parameter.device)
        optimizer.state[parameter][kind] = shares_like(here, parameter) if same else here


def load_batches(checkpoint: Path) -> dict[str, Tensor]:
    """What later batches take from earlier ones."""
    file = checkpoint / "batches.safetensors"
    return load_file(file) if file.exists() else {}


def _named(learner: nn.Module) -> list[tuple[str, nn.Parameter]]:
    have_own_share(learner)
    return list(learner.named_parameters())  # names tied parameters once


def _parameters(learner: nn.Module) -> dict[str, Tensor]:
    return {name: whole(parameter.detach()) for name, parameter in _named(learner)}


def _moments(learner: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{kind}": whole(tensor)
        for name, parameter in _named(learner)
        for kind, tensor in optimizer.state.get(parameter, {}).items()
    }


def _flush(place: Path) -> None:
    """Let the disk have a file, or the names in a folder, before anything relies on them."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
