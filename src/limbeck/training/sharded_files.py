"""Tensors of which several processes keep shards, as safetensors: each process writes its own.

By torch's distributed checkpoints in the form of the hub, in which the header of a file says where
in the whole tensors its shards are. (Torch's other form is made of pickles.)
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from ..errors import TrainingError

# Older versions of torch do not have them; there, whole tensors are kept.
_READER: Any = getattr(checkpoint, "HuggingFaceStorageReader", None)
_WRITER: Any = getattr(checkpoint, "HuggingFaceStorageWriter", None)
_FILES = "shard-*.safetensors"


def can_be_shards(tensors: Mapping[str, Tensor]) -> bool:
    """Whether processes keep shards of some tensors, and this torch can write them as such."""
    sharded = any(isinstance(tensor, DTensor) for tensor in tensors.values())
    return sharded and _WRITER is not None


def shard_files(folder: Path) -> list[Path]:
    """The files with shards in a folder."""
    return sorted(folder.glob(_FILES))


def write_shards(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write the shards of this process; all have to call, and all have written when it returns.

    Args:
        tensors: The same names in every process.
        folder: On a disk that all processes share.
    """
    with _quietly():
        writer = _WRITER(str(folder), save_distributed=True)
        save(dict(tensors), storage_writer=writer)


def read_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors, or this process's shards of them, whatever the number of those who wrote them.

    Args:
        folder: With the files of all processes.
        tensors: Some of those in the files, by name; changed in place.
    """
    with _quietly():
        reader = _READER(str(folder))
        load(dict(tensors), storage_reader=reader, no_dist=True)


def empty_tensors(folder: Path) -> dict[str, Tensor]:
    """A tensor without content for every whole tensor in the files, which takes no memory.

    Raises:
        TrainingError: This torch cannot read such files.
    """
    if _READER is None:
        raise TrainingError(
            f"{folder} was written in shards, which torch {torch.__version__} cannot read; resume"
            " with the version that wrote it, or a newer one"
        )
    found = _READER(str(folder)).read_metadata().state_dict_metadata
    return {
        name: torch.empty(facts.size, dtype=facts.properties.dtype, device="meta")
        for name, facts in found.items()
    }


@contextmanager
def _quietly() -> Iterator[None]:
    """Torch warns of what it means to change in this form, and of what is meant here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
