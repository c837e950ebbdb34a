"""A teacher whose signals are kept on disk, so that several runs on the same text share them.

What is kept stands under the hash of what the teacher read, so it cannot be of another
batch. Of predictions only the features are kept: the output map makes the rest again.
"""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..activations import Activations, Name, Needs, as_activations
from ..batch import Batch
from .live import LiveTeacher

_ENDING = ".safetensors"
_HEADER = 256  # bytes of a file that are not the tensor's, at most


@dataclass
class SignalStore:
    """A folder of signals, one file a tensor and batch, written whole or not at all.

    Attributes:
        folder: Made when the first signal is kept.
        most_bytes: No more than this is kept; what does not fit is computed each time.
    """

    folder: Path
    most_bytes: int
    _held: int | None = field(default=None, init=False)

    def get(self, key: str, name: Name) -> Tensor | None:
        """The tensor of a batch, or None."""
        file = self._file(key, name)
        if not file.is_file():
            return None
        try:
            return load_file(file)["signal"]
        except (SafetensorError, KeyError, OSError):
            file.unlink(missing_ok=True)  # damaged: it is computed and written again
            return None

    def put(self, key: str, name: Name, tensor: Tensor) -> None:
        """Keep a tensor if there is room."""
        size = tensor.numel() * tensor.element_size() + _HEADER
        if self.held_bytes + size > self.most_bytes:
            return
        file = self._file(key, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        try:
            save_file({"signal": tensor.contiguous().cpu()}, part)
            held = self.held_bytes
            part.replace(file)
        except (OSError, SafetensorError):
            part.unlink(missing_ok=True)
            self.most_bytes = self.held_bytes  # the disk is full: go on without keeping more
            return
        self._held = held + file.stat().st_size

    @property
    def held_bytes(self) -> int:
        """Bytes that are kept now."""
        if self._held is None:
            self._held = sum(file.stat().st_size for file in self._files())
        return self._held

    def drop_all_but(self, names: Iterable[Name]) -> None:
        """Remove the tensors that nobody will ask for again."""
        kept = {_label(name) for name in names}
        for file in self._files():
            if file.name.removesuffix(_ENDING) not in kept:
                file.unlink()
        self._held = None

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._held = None

    def _files(self) -> list[Path]:
        return list(self.folder.glob(f"*/*{_ENDING}"))

    def _file(self, key: str, name: Name) -> Path:
        return self.folder / key / f"{_label(name)}{_ENDING}"


class KeptTeacher:
    """A teacher that computes what the store lacks, and gives the rest from it.

    Where the run computes in bfloat16, hidden states are rounded to it, whether they come
    from the store or not, so that a run does not depend on what was kept before it.
    """

    def __init__(self, live: LiveTeacher, store: SignalStore, *, worth: set[Name]) -> None:
        """Keep what is ``worth`` keeping of what is computed."""
        self._live, self._store, self._worth = live, store, worth

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """The activations that ``needs`` names."""
        if not needs.anything:
            return Activations()
        wanted = needs.tensors()
        keys = {name: _key(batch, name) for name in wanted}
        found: dict[Name, Tensor] = {}
        for name in wanted:
            kept = self._store.get(keys[name], name)
            if kept is not None:
                found[name] = kept.to(batch.teacher.input_ids.device)
        if missing := wanted - found.keys():
            for name, tensor in self._live.tensors(batch, missing).items():
                found[name] = _rounded(tensor)
                if name in self._worth:
                    self._store.put(keys[name], name, found[name])
        return as_activations(self._live.model, self._live.anatomy, found)


def _key(batch: Batch, name: Name) -> str:
    tokens = batch.teacher
    digest = hashlib.blake2b(digest_size=16)
    read = [tokens.input_ids, tokens.mask]
    read += [tokens.positions] if tokens.positions is not None else []
    for tensor in [*read, tokens.predicted] if name[0] == "predictions" else read:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _rounded(tensor: Tensor) -> Tensor:
    device = tensor.device.type
    if torch.is_autocast_enabled(device):
        return tensor.to(torch.get_autocast_dtype(device))
    return tensor


def _label(name: Name) -> str:
    return f"{name[0]}-{name[1]}"
