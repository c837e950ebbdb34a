"""Signals of a teacher on disk: one row of text a record, found by what the teacher read.

A record's key is a hash of the row's own tokens, so it cannot be of another text or
masking, and it is found however a batch is cut. Records stand in shards, safetensors
with a checksum in their header, each written whole or not at all.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..activations import Name
from ..batch import Tokens
from ..errors import CacheError
from ..system.files import whole_file

_ENDING = ".safetensors"
_SHARD = 64_000_000  # bytes
_PARTS = ("keys", "ends", "signal")
Keys = Int64[np.ndarray, " rows"]


def row_keys(tokens: Tokens, *, masking: bool, teacher: bytes = b"") -> Keys:
    """What names each row's signals: its real tokens, and what is to be predicted if it matters.

    Args:
        tokens: What the teacher reads.
        masking: Whether it matters what is to be predicted.
        teacher: Tells teachers apart whose signals stand in one store, 64 bytes at most.
    """
    read = [tokens.input_ids]
    read += [tokens.positions] if tokens.positions is not None else []
    read += [tokens.predicted.long()] if masking else []
    table = torch.stack(read, -1).cpu().numpy()
    real = tokens.mask.cpu().numpy()
    found = [
        hashlib.blake2b(row[mask].tobytes(), digest_size=8, key=teacher).digest()
        for row, mask in zip(table, real, strict=True)
    ]
    return np.frombuffer(b"".join(found), dtype=np.int64)


@dataclass
class _Records:
    """Where the records of one name stand: sorted keys, and for each its shard and number in it."""

    keys: Keys
    shards: Keys
    numbers: Keys
    files: list[Path]

    def find(self, key: int) -> tuple[Path, int] | None:
        place = int(np.searchsorted(self.keys, key))
        if place == len(self.keys) or self.keys[place] != key:
            return None
        return self.files[int(self.shards[place])], int(self.numbers[place])


@dataclass
class SignalStore:
    """A folder of signals, a folder of shards for each name.

    Attributes:
        folder: Made when the first shard is written.
        most_bytes: No more than this is kept; what does not fit is left out.
        writer: Tells the shards of several processes apart.
        strict: A damaged shard is an error; else it is removed, to be computed again.
    """

    folder: Path
    most_bytes: int
    writer: int = 0
    strict: bool = False
    _index: dict[Name, _Records] = field(default_factory=dict, init=False)
    _pending: dict[Name, dict[int, Tensor]] = field(default_factory=dict, init=False)
    _pending_bytes: int = field(default=0, init=False)
    _written: int | None = field(default=None, init=False)

    def get(self, name: Name, keys: Keys) -> list[Tensor] | None:
        """The records of those rows, or None where one is missing.

        Raises:
            CacheError: A shard is damaged, and the store is strict.
        """
        pending = self._pending.get(name, {})
        found = []
        for key in keys.tolist():
            if key in pending:
                found.append(pending[key])
                continue
            place = self._records(name).find(key)
            try:
                record = None if place is None else _read(*place)
            except _Damaged as error:
                self._give_up(name, Path(str(error)))
                record = None
            if record is None:
                return None
            found.append(record)
        return found

    def has(self, name: Name, keys: Keys) -> bool:
        """Whether all those rows are here."""
        pending, records = self._pending.get(name, {}), self._records(name)
        return all(key in pending or records.find(key) for key in keys.tolist())

    def put(self, name: Name, keys: Keys, records: Sequence[Tensor]) -> None:
        """Keep records if there is room; they are on disk after `flush`."""
        pending = self._pending.setdefault(name, {})
        for key, record in zip(keys.tolist(), records, strict=True):
            size = record.numel() * record.element_size() + 16
            if self.held_bytes + size > self.most_bytes or key in pending:
                continue
            pending[key] = record.detach().cpu()
            self._pending_bytes += size
        if self._pending_bytes >= _SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what has been put; where that fails and the store is not strict, no more is kept.

        Raises:
            CacheError: It could not be written, and the store is strict.
        """
        for name, records in self._pending.items():
            if not records:
                continue
            folder = self.folder / label_of(name)
            # Counted from the last, as a damaged one before it may be gone.
            mine = sorted(folder.glob(f"{self.writer:03d}-*{_ENDING}"))
            number = int(mine[-1].stem.split("-")[1]) + 1 if mine else 0
            file = folder / f"{self.writer:03d}-{number:06d}{_ENDING}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _write(file, records)
            except (OSError, SafetensorError) as error:
                if self.strict:
                    raise CacheError(
                        f"{file} could not be written ({error}); what was written before is"
                        " whole. Make room and run the same command again"
                    ) from error
                self.most_bytes = 0
        self._pending.clear()
        self._pending_bytes, self._written = 0, None
        self._index.clear()

    @property
    def held_bytes(self) -> int:
        """Bytes that are kept now."""
        if self._written is None:
            self._written = sum(file.stat().st_size for file in self.folder.glob(f"*/*{_ENDING}"))
        return self._written + self._pending_bytes

    def names(self) -> set[Name]:
        """Of what there are shards."""
        labels = [place.name.rsplit("-", 1) for place in self.folder.glob("*-*") if place.is_dir()]
        return {(kind, int(layer)) for kind, layer in labels if layer.isdigit()}

    def damaged(self) -> list[Path]:
        """Every shard that does not have its checksum; this reads them all."""
        found = []
        for file in sorted(self.folder.glob(f"*/*{_ENDING}")):
            try:
                _shard(file)
            except _Damaged:
                found.append(file)
        return found

    def drop_all_but(self, names: Iterable[Name]) -> None:
        """Remove the signals that nobody will ask for again."""
        for name in self.names() - set(names):
            shutil.rmtree(self.folder / label_of(name), ignore_errors=True)
        self._index.clear()
        self._written = None

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._index.clear()
        self._pending.clear()
        self._pending_bytes, self._written = 0, None

    def _records(self, name: Name) -> _Records:
        if name not in self._index:
            self._index[name] = self._scan(name)
        return self._index[name]

    def _scan(self, name: Name) -> _Records:
        files, keys = [], []
        for file in sorted((self.folder / label_of(name)).glob(f"*{_ENDING}")):
            try:
                with safe_open(file, "np") as shard:
                    keys.append(shard.get_tensor("keys"))
                files.append(file)
            except (SafetensorError, OSError):
                self._give_up(name, file)
        shards = np.repeat(np.arange(len(files)), [len(some) for some in keys])
        numbers = [np.arange(len(some)) for some in keys]
        joined = np.concatenate([*keys, np.empty(0, dtype=np.int64)])
        order = np.argsort(joined, kind="stable")
        every = np.concatenate([*numbers, np.empty(0, dtype=np.int64)])
        return _Records(joined[order], shards[order], every[order], files)

    def _give_up(self, name: Name, file: Path) -> None:
        """Of a damaged shard: say so, or be rid of it."""
        if self.strict:
            raise CacheError(
                f"{file} is damaged: it does not have the checksum that it was written with."
                " Run the `limbeck cache` command again, which writes it anew"
            )
        file.unlink(missing_ok=True)
        self._index.pop(name, None)


class _Damaged(Exception):  # noqa: N818 - never leaves this file
    """The path of a shard that is not as it was written."""


def _write(file: Path, records: dict[int, Tensor]) -> None:
    ends = torch.tensor([len(record) for record in records.values()]).cumsum(0)
    tensors = {
        "keys": torch.tensor(list(records)),
        "ends": ends,
        "signal": torch.cat(list(records.values())).contiguous(),
    }
    with whole_file(file) as part:
        save_file(tensors, part, metadata={"blake2b": _digest(tensors)})


def _read(file: Path, number: int) -> Tensor:
    shard, ends = _shard(file)
    found: Tensor = shard.get_slice("signal")[ends[number] : ends[number + 1]]
    return found


def _shard(file: Path) -> tuple[Any, list[int]]:
    """A shard and the ends of its records, after a look at its checksum."""
    try:
        state = file.stat()
        return _opened(str(file), state.st_size, state.st_mtime_ns)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise _Damaged(file) from error


@lru_cache(maxsize=64)
def _opened(file: str, size: int, changed: int) -> tuple[Any, list[int]]:
    """The shard of a state, which is here only to tell it from another of the same name."""
    shard: Any = safe_open(file, "pt")
    tensors = {name: shard.get_tensor(name) for name in _PARTS}
    if (shard.metadata() or {}).get("blake2b") != _digest(tensors):
        raise _Damaged(file)
    return shard, [0, *tensors["ends"].tolist()]


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=32)
    for name in _PARTS:
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def label_of(name: Name) -> str:
    """What the folder of a signal is called."""
    return f"{name[0]}-{name[1]}"
