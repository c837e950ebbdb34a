"""A shard: a safetensors file of records, with a checksum in its header; written as a whole."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..system.files import whole_file

_PARTS = ("keys", "ends", "signal")


class DamagedShardError(Exception):
    """A shard is not as it was written; the message is its path."""


def write_shard(file: Path, records: dict[int, Tensor]) -> None:
    """Write records by key, so that the file appears complete or not at all."""
    ends = torch.tensor([len(record) for record in records.values()]).cumsum(0)
    tensors = {
        "keys": torch.tensor(list(records)),
        "ends": ends,
        "signal": torch.cat(list(records.values())).contiguous(),
    }
    with whole_file(file) as part:
        save_file(tensors, part, metadata={"blake2b": _digest(tensors)})


def read_keys(file: Path) -> Int64[np.ndarray, " records"]:
    """The keys of a shard's records, in their order; the checksum is not verified."""
    with safe_open(file, "np") as shard:
        keys: Int64[np.ndarray, " records"] = shard.get_tensor("keys")
    return keys


def read_record(file: Path, number: int) -> Tensor:
    """One record of a shard.

    Raises:
        DamagedShardError: The shard does not have its checksum.
    """
    shard, ends = open_shard(file)
    first = int(ends[number - 1]) if number else 0
    found: Tensor = shard.get_slice("signal")[first : int(ends[number])]
    return found


def open_shard(file: Path) -> tuple[Any, Tensor]:
    """A shard and the ends of its records, once the checksum is verified.

    Raises:
        DamagedShardError: The shard does not have its checksum.
    """
    try:
        state = file.stat()
        return _opened(str(file), state.st_size, state.st_mtime_ns)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise DamagedShardError(file) from error


# Files by name, size and time of change, which distinguish one from an earlier one of its name.
# Verifying reads the whole file, so a shard that is opened again is not verified again: rows that
# are read in another order than they were stored in go from shard to shard.
_verified: set[tuple[str, int, int]] = set()


@lru_cache(maxsize=64)
def _opened(file: str, size: int, changed: int) -> tuple[Any, Tensor]:
    """The shard and the ends of its records; some stay open."""
    shard: Any = safe_open(file, "pt")
    if (file, size, changed) not in _verified:
        tensors = {name: shard.get_tensor(name) for name in _PARTS}
        if (shard.metadata() or {}).get("blake2b") != _digest(tensors):
            raise DamagedShardError(file)
        _verified.add((file, size, changed))
    return shard, shard.get_tensor("ends")


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=32)
    for name in _PARTS:
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
