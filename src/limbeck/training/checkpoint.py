"""Checkpoints, from which a run resumes exactly, written whole or not at all.

Weights, projections and the optimizer's moments are safetensors; the position of the
run is JSON, with a checksum of every other file. Where processes keep shards of them, each
writes its own, and any number of processes can resume. Randomness needs no state: it depends
on the seed and the step. A checkpoint is written under a temporary name and renamed when
it is complete, and only then are older ones removed.
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from ..errors import TrainingError, first_line
from ..system.files import checksum, give_usual_mode
from .optimizer import restore_state, state_tensors
from .processes import free_gathered_weights, sharded_like, whole
from .sharded_files import (
    can_be_shards,
    empty_tensors,
    read_shards,
    shard_files,
    write_shards,
)

_PREFIX = "checkpoint-"
_LEARNER, _OPTIMIZER = "learner", "optimizer"


@dataclass(frozen=True)
class Position:
    """How far a run is: its stage, the steps done in it, and the tokens and seconds spent so far.

    The step is also the position in the data and in the schedule.
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
    """Write a checkpoint, and remove older ones when it is complete.

    Args:
        folder: The run's ``state``.
        position: The position of the run.
        learner: Its parameters are saved, tied parameters once.
        optimizer: None between stages, because the next stage starts with a new optimizer.
        batches: The state of the batch source: what later batches need of earlier ones.
        keep: How many checkpoints are kept.
        write: Whether this process writes what is not sharded. Every process has to call, because
            each may hold a shard of the tensors.

    Raises:
        TrainingError: The checkpoint could not be written, for example because the disk is
            full; earlier checkpoints are unchanged.
    """
    final = folder / f"{_PREFIX}{position.stage:03d}-{position.step:09d}"
    part = folder / f"{final.name}.part"
    if write:
        shutil.rmtree(part, ignore_errors=True)
    try:
        if write:
            part.mkdir(parents=True)
        _write_tensors(part, learner, optimizer, write=write)
        if not write:
            return final
        if batches:
            save_file(dict(batches), part / "batches.safetensors")
        files = sorted(part.iterdir())
        give_usual_mode(*files)
        sums = {file.name: checksum(file) for file in files}
        facts = {"position": asdict(position), "blake2b": sums}
        (part / "checkpoint.json").write_text(json.dumps(facts), encoding="utf-8")
        for file in part.iterdir():
            _flush(file)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        _flush_names(folder)
    except (OSError, SafetensorError, CheckpointException) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise TrainingError(
            f"the checkpoint at step {position.step} could not be written to {folder}:"
            f" {first_line(error)}. Earlier checkpoints are whole; make room and run the same"
            " command again"
        ) from error
    for old in _checkpoints(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _write_tensors(
    part: Path, learner: nn.Module, optimizer: torch.optim.Optimizer | None, *, write: bool
) -> None:
    """Write the weights and moments: each process its shards, or one process all of them."""
    named = _named(learner)
    kinds = {_LEARNER: {name: parameter.detach() for name, parameter in named}}
    if optimizer is not None:
        kinds[_OPTIMIZER] = _moments(named, optimizer)
    if can_be_shards(kinds[_LEARNER]):
        torch.distributed.barrier()  # the folder is there
        both = {f"{kind}/{name}": t for kind, found in kinds.items() for name, t in found.items()}
        write_shards(both, part)
        return
    for kind, tensors in kinds.items():
        gathered = {name: whole(tensor) for name, tensor in tensors.items()}
        if write:
            save_file(gathered, part / f"{kind}.safetensors")


def latest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The last whole checkpoint of a run, if there is one, and the problems of later ones.

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
            + f". No checkpoint before it is left; remove {folder} to start again"
        )
    return None, []


def _checkpoints(folder: Path) -> list[Path]:
    """All checkpoints, newest first, without incomplete ones."""
    found = [p for p in folder.glob(f"{_PREFIX}*") if p.suffix != ".part"]
    return sorted(found, key=lambda path: path.name, reverse=True)


def _problem(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be used; None where it can."""
    try:
        read_position(checkpoint)
        facts = json.loads((checkpoint / "checkpoint.json").read_text(encoding="utf-8"))
        if not any(name.startswith(("learner.", "shard-")) for name in facts["blake2b"]):
            return "checkpoint.json names no weights"
        for name in facts["blake2b"]:
            if checksum(checkpoint / Path(name).name) != facts["blake2b"][name]:
                return f"{name} does not have the checksum that it was written with"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "checkpoint.json is not what was written"
    return None


def read_position(checkpoint: Path) -> Position:
    """The position of the run when the checkpoint was written."""
    facts = json.loads((checkpoint / "checkpoint.json").read_text(encoding="utf-8"))
    return Position(**facts["position"])


def load_learner(checkpoint: Path, learner: nn.Module, *, student_only: bool) -> None:
    """Load the checkpoint's weights into the learner.

    Args:
        checkpoint: As `latest_checkpoint` returns it.
        learner: Changed in place.
        student_only: Whether to load only the student, for a stage with other projections.

    Raises:
        TrainingError: The checkpoint is of another student.
    """
    here = {
        name: parameter.detach()
        for name, parameter in _named(learner)
        if name.startswith("student.") or not student_only
    }
    saved = _saved(checkpoint, _LEARNER)
    for name, parameter in here.items():
        if name not in saved or saved[name].shape != parameter.shape:
            raise TrainingError(
                f"{checkpoint} is of another student: {name} is {tuple(parameter.shape)} here"
                f" and {tuple(saved[name].shape) if name in saved else 'missing'} there; use"
                " another run folder, or the recipe that it was started with"
            )
    if shard_files(checkpoint):
        read_shards(checkpoint, {f"{_LEARNER}/{name}": tensor for name, tensor in here.items()})
        return
    for name, parameter in here.items():
        parameter.copy_(saved[name])


def load_optimizer(checkpoint: Path, learner: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the checkpoint's moments into the optimizer."""
    saved = _saved(checkpoint, _OPTIMIZER)
    by_name = dict(_named(learner))
    placed: dict[str, Tensor] = {}
    for key, tensor in saved.items():
        parameter = by_name[key.rsplit("/", 1)[0]]
        like_it = tensor.shape == parameter.shape
        if tensor.is_meta:  # to be filled from shards
            placed[key] = (
                torch.empty_like(parameter.detach(), dtype=tensor.dtype)
                if like_it
                else torch.empty_like(tensor, device=parameter.device)
            )
        else:
            tensor = tensor.to(parameter.device)
            placed[key] = sharded_like(tensor, parameter) if like_it else tensor
    if shard_files(checkpoint):
        read_shards(checkpoint, {f"{_OPTIMIZER}/{key}": t for key, t in placed.items()})
    of_parameter: dict[str, dict[str, Tensor]] = {}
    for key, tensor in placed.items():
        name, kind = key.rsplit("/", 1)
        of_parameter.setdefault(name, {})[kind] = tensor
    for name, tensors in of_parameter.items():
        restore_state(optimizer, by_name[name], tensors)


def _saved(checkpoint: Path, kind: str) -> dict[str, Tensor]:
    """The tensors of a kind by name; of shards only their shapes, on the meta device."""
    if not shard_files(checkpoint):
        return load_file(checkpoint / f"{kind}.safetensors")
    found = empty_tensors(checkpoint)
    return {k.removeprefix(f"{kind}/"): t for k, t in found.items() if k.startswith(f"{kind}/")}


def load_batches(checkpoint: Path) -> dict[str, Tensor]:
    """The state of the batch source; empty where there is none."""
    file = checkpoint / "batches.safetensors"
    return load_file(file) if file.exists() else {}


def _named(learner: nn.Module) -> list[tuple[str, nn.Parameter]]:
    free_gathered_weights(learner)
    return list(learner.named_parameters())  # names tied parameters once


def _moments(
    named: Sequence[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    return {
        f"{name}/{kind}": tensor
        for name, parameter in named
        for kind, tensor in state_tensors(optimizer, parameter).items()
    }


def _flush(file: Path) -> None:
    """Flush a file to disk before anything relies on it."""
    handle = os.open(file, os.O_RDWR)  # Windows flushes no file that is open for reading alone
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_names(folder: Path) -> None:
    """Flush the names in a folder to disk, where the system can.

    Windows opens no folder, and some file systems, as of shared folders, flush none.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
