"""Signals of a teacher on disk: records of rows by key, in shards, one folder for each signal."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from safetensors import SafetensorError
from torch import Tensor

from ..activations import Name
from ..errors import CacheError
from .shards import DamagedShardError, open_shard, read_keys, read_record, write_shard

_ENDING = ".safetensors"
_SHARD = 64_000_000  # bytes
Keys = Int64[np.ndarray, " rows"]


_State = tuple[Path, int, int]  # a shard, its size, and when it was last changed
_UNKNOWN = -1


@dataclass
class _Records:
    """Where the records of a signal are: sorted keys, and for each its shard and number there.

    Attributes:
        keys: Ascending.
        shards: The shard of each key, as its place among the states.
        numbers: Of each key's record in its shard.
        states: Of the shards.
        changed: When shards were last added to their folder or removed from it.
    """

    keys: Keys
    shards: Keys
    numbers: Keys
    states: list[_State]
    changed: int = _UNKNOWN

    def find(self, key: int) -> tuple[Path, int] | None:
        place = int(np.searchsorted(self.keys, key))
        if place == len(self.keys) or self.keys[place] != key:
            return None
        return self.states[int(self.shards[place])][0], int(self.numbers[place])

    def with_shards(
        self, states: Sequence[_State], keys: Sequence[Int64[np.ndarray, " _"]]
    ) -> "_Records":
        """The same with further shards, each with the keys of its records."""
        first = len(self.states)
        shards = [np.full(len(some), first + n) for n, some in enumerate(keys)]
        numbers = [np.arange(len(some)) for some in keys]
        joined = np.concatenate([self.keys, *keys])
        # A stable sort of numbers that are nearly in order takes time in proportion to them.
        order = np.argsort(joined, kind="stable")
        return _Records(
            joined[order],
            np.concatenate([self.shards, *shards])[order],
            np.concatenate([self.numbers, *numbers])[order],
            [*self.states, *states],
        )


@dataclass
class SignalStore:
    """A folder of signals, with a folder of shards for each of them.

    Attributes:
        folder: Created when the first shard is written.
        most_bytes: The store takes no record that would make it larger than this.
        writer: The number of this process, which no other has; it distinguishes their shards.
        strict: Whether a damaged shard is an error; if not, it is removed and its records are
            missing.
    """

    folder: Path
    most_bytes: int
    writer: int = 0
    strict: bool = False
    _index: dict[Name, _Records] = field(default_factory=dict, init=False)
    _pending: dict[Name, dict[int, Tensor]] = field(default_factory=dict, init=False)
    _pending_bytes: int = field(default=0, init=False)
    _on_disk: int | None = field(default=None, init=False)

    def get(self, name: Name, keys: Keys) -> list[Tensor] | None:
        """The records of those rows, or None if one is missing.

        Raises:
            CacheError: A shard is damaged, and the store is strict.
        """
        pending, records = self._pending.get(name, {}), self._records(name)
        found = []
        for key in keys.tolist():
            if key in pending:
                found.append(pending[key])
                continue
            place = records.find(key)
            try:
                record = None if place is None else read_record(*place)
            except DamagedShardError as error:
                self._give_up(name, Path(str(error)))
                record = None
            if record is None:
                return None
            found.append(record)
        return found

    def has(self, name: Name, keys: Keys) -> bool:
        """Whether all those rows are in the store."""
        pending, records = self._pending.get(name, {}), self._records(name)
        return all(key in pending or records.find(key) for key in keys.tolist())

    def put(self, name: Name, keys: Keys, records: Sequence[Tensor]) -> None:
        """Store records if there is room; they are on disk after `flush`."""
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
        """Write the records that were put; if that fails, a store that is not strict takes no more.

        Raises:
            CacheError: A shard could not be written, and the store is strict.
        """
        for name, records in self._pending.items():
            if not records:
                continue
            folder = self.folder / label_of(name)
            # Counted from the last shard, as a damaged one before it may have been removed.
            mine = sorted(folder.glob(f"{self.writer:03d}-*{_ENDING}"))
            number = int(mine[-1].stem.split("-")[1]) + 1 if mine else 0
            file = folder / f"{self.writer:03d}-{number:06d}{_ENDING}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_shard(file, records)
            except (OSError, SafetensorError) as error:
                if self.strict:
                    raise CacheError(
                        f"{file} could not be written ({error}); the shards before it are"
                        " complete. Make room and run the same command again"
                    ) from error
                self.most_bytes = 0
            if name in self._index:
                self._index[name].changed = _UNKNOWN
        self._pending.clear()
        self._pending_bytes, self._on_disk = 0, None

    @property
    def held_bytes(self) -> int:
        """Bytes of all records, on disk and not yet written."""
        if self._on_disk is None:
            files = self.folder.glob(f"*/*{_ENDING}")
            self._on_disk = sum(max(0, size) for _, size, _ in map(_state, files))
        return self._on_disk + self._pending_bytes

    def names(self) -> set[Name]:
        """The signals of which there are shards."""
        labels = [place.name.rsplit("-", 1) for place in self.folder.glob("*-*") if place.is_dir()]
        return {(kind, int(layer)) for kind, layer in labels if layer.isdigit()}

    def damaged(self) -> list[Path]:
        """Every shard that does not have its checksum; this reads all shards."""
        found = []
        for file in sorted(self.folder.glob(f"*/*{_ENDING}")):
            try:
                open_shard(file)
            except DamagedShardError:
                found.append(file)
        return found

    def drop_all_but(self, names: Iterable[Name]) -> None:
        """Remove all signals but those named."""
        for name in self.names() - set(names):
            shutil.rmtree(self.folder / label_of(name), ignore_errors=True)
        self._index.clear()
        self._on_disk = None

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._index.clear()
        self._pending.clear()
        self._pending_bytes, self._on_disk = 0, None

    def _records(self, name: Name) -> _Records:
        """Where the records of a signal are now; shards that other processes add are found too."""
        folder = self.folder / label_of(name)
        try:
            changed = folder.stat().st_mtime_ns
        except OSError:
            changed = 0  # there is none yet
        known = self._index.get(name)
        if known is None or known.changed != changed:
            self._index[name] = self._scan(name, folder, known)
            self._index[name].changed = changed
        return self._index[name]

    def _scan(self, name: Name, folder: Path, known: _Records | None) -> _Records:
        """Read the keys of shards that are new; of all where one that was known has gone."""
        states = [_state(file) for file in sorted(folder.glob(f"*{_ENDING}"))]
        if known is None or not set(known.states).issubset(states):
            nothing = np.empty(0, dtype=np.int64)
            known = _Records(nothing, nothing, nothing, [])
        before = set(known.states)
        new, keys = [], []
        for state in states:
            if state in before:
                continue
            try:
                keys.append(read_keys(state[0]))
                new.append(state)
            except (SafetensorError, OSError):
                self._give_up(name, state[0])
        return known.with_shards(new, keys)

    def _give_up(self, name: Name, file: Path) -> None:
        """Refuse a damaged shard if the store is strict; else remove it."""
        if self.strict:
            raise CacheError(
                f"{file} is damaged: its content does not match its checksum."
                " Run the `limbeck cache` command again, which computes its signals once more"
            )
        file.unlink(missing_ok=True)
        self._index.pop(name, None)


def _state(file: Path) -> _State:
    """What distinguishes a shard from an earlier one of the same name."""
    try:
        found = file.stat()
    except FileNotFoundError:  # another process has removed it in this moment
        return file, _UNKNOWN, _UNKNOWN
    return file, found.st_size, found.st_mtime_ns


def label_of(name: Name) -> str:
    """The name of a signal's folder."""
    return f"{name[0]}-{name[1]}"
