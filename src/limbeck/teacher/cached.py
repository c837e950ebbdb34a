"""A teacher that was run once: its signals come from disk, and its body is never loaded.

Of predictions either what enters the output map is kept, or some pieces of each
distribution. Queries, keys and values are made again from what entered them, where that
is smaller; the frozen maps that this takes are kept once.

Source: Gu et al. 2024, MiniPLM, arXiv:2410.17215 (a teacher that is run once); samples
as an unbiased signal, Anshumann et al. 2025, arXiv:2503.16870.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from ..activations import (
    Activations,
    Name,
    Needs,
    OutputMap,
    Predictions,
    Selected,
    as_activations,
)
from ..architectures import submodule
from ..batch import Batch, Tokens
from ..errors import CacheError
from .kept import joined, keys_of, records_of, rounded
from .live import LiveTeacher
from .manifest import Kind
from .store import Keys, SignalStore

_MAPS = "maps.safetensors"
_MADE = ("queries", "keys", "values")
_PREDICTIONS = ("predictions", 0)
_NEVER = -1e4  # the log-probability of what was not drawn: finite, so that 0 times it is 0
_ROWS = 256  # distributions at once
_NAMES: dict[str, list[Name]] = {
    "exact": [_PREDICTIONS],
    "top_k": [("top_pieces", 0), ("top_logs", 0)],
    "sampled": [("drawn", 0)],
}


class CachedTeacher:
    """The signals of a folder, as a live teacher would give them."""

    def __init__(self, store: SignalStore, kind: Kind, maps: Mapping[str, Tensor]) -> None:
        """Read from ``store``; ``maps`` are the frozen ones that remake what was not kept."""
        self._store, self._kind, self._maps = store, kind, maps
        self._here = store.names()

    @classmethod
    def opened(cls, folder: Path, kind: Kind, device: torch.device | str) -> "CachedTeacher":
        """The signals in a folder.

        Raises:
            CacheError: Its maps cannot be read.
        """
        try:
            maps = load_file(folder / _MAPS, device=str(device))
        except (OSError, SafetensorError) as error:
            raise CacheError(
                f"{folder / _MAPS} cannot be read ({error}); run `limbeck cache` again"
            ) from error
        return cls(SignalStore(folder, 0, strict=True), kind, maps)

    def missing(self, needs: Needs) -> list[Name]:
        """Of what is needed, all that is neither kept nor remade."""
        here = {name for name in needs.tensors() if name in self._here or self._remade(name)}
        if self._here.issuperset(_NAMES[self._kind.logits]):
            here.add(_PREDICTIONS)
        return sorted(needs.tensors() - here)

    def _remade(self, name: Name) -> bool:
        kind, layer = name
        return ("entered", layer) in self._here and f"{kind}-{layer}.weight" in self._maps

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """The activations that ``needs`` names.

        Raises:
            CacheError: One is not there, or its shard is damaged.
        """
        if not needs.anything:
            return Activations()
        tokens, wanted = batch.teacher, needs.tensors()
        found: dict[Name, Tensor] = {}
        for kind, layer in wanted - {_PREDICTIONS}:
            if not self._remade((kind, layer)):
                found[kind, layer] = self._kept((kind, layer), tokens)
                continue
            entered = self._kept(("entered", layer), tokens)
            weight = self._map(f"{kind}-{layer}.weight")
            found[kind, layer] = linear(entered, weight, self._maps.get(f"{kind}-{layer}.bias"))
        if _PREDICTIONS not in wanted:
            return as_activations(found, None)
        weight, bias = self._map("output.weight"), self._maps.get("output.bias")
        if self._kind.logits == "exact":
            found[_PREDICTIONS] = self._kept(_PREDICTIONS, tokens)
            return as_activations(found, (weight, bias))
        nothing = weight.new_empty(int(tokens.predicted.sum()), 0)
        given = Predictions(nothing, weight[:, :0], None, selected=self._selected(tokens))
        others = as_activations(found, None)
        return Activations(
            given, others.embeddings, others.hidden, others.queries, others.keys, others.values
        )

    def _selected(self, tokens: Tokens) -> Selected:
        if self._kind.logits == "sampled":
            drawn = self._kept(("drawn", 0), tokens).long()
            times = (drawn[:, :, None] == drawn[:, None, :]).sum(-1)
            logs = (times / drawn.shape[1]).log()
            return Selected(drawn, logs, torch.full_like(logs[:, 0], _NEVER))
        logs = self._kept(("top_logs", 0), tokens).float()
        pieces = self._kept(("top_pieces", 0), tokens).long()
        return Selected(pieces, logs[:, :-1], logs[:, -1])

    def _kept(self, name: Name, tokens: Tokens) -> Tensor:
        keys = keys_of(tokens, {name})[name]
        records = self._store.get(name, keys)
        if records is None:
            raise CacheError(
                f"{self._store.folder} lacks {name[0]} (layer {name[1]}) of a row that is asked"
                f" for; it has {', '.join(sorted({kind for kind, _ in self._here}))}. Run `limbeck"
                " cache` with this recipe"
            )
        return joined(name, records, tokens)

    def _map(self, name: str) -> Tensor:
        if name not in self._maps:
            raise CacheError(
                f"{self._store.folder} lacks the map {name}; run `limbeck cache` again"
            )
        return self._maps[name]


class CacheWriter:
    """Runs a teacher, and keeps what objectives will ask for."""

    def __init__(
        self, live: LiveTeacher, store: SignalStore, kind: Kind, *, pieces: int, seed: int
    ) -> None:
        """Of distributions over the first ``pieces`` rows; ``seed`` decides what is drawn."""
        self._live, self._store, self._kind = live, store, kind
        self._pieces, self._seed = pieces, seed

    def names(self, needs: Needs) -> set[Name]:
        """What is kept for such needs."""
        found: set[Name] = set()
        for name in needs.tensors():
            if name == _PREDICTIONS:
                found.update(_NAMES[self._kind.logits])
            elif name[0] in _MADE and self._remakes(name[1], needs):
                found.add(("entered", name[1]))
            else:
                found.add(name)
        return found

    def keep(self, batch: Batch, needs: Needs) -> bool:
        """Keep what is needed of a batch; gives whether the teacher had to run for it."""
        tokens, names = batch.teacher, self.names(needs)
        keys = keys_of(tokens, names)
        missing = {name for name in names if not self._store.has(name, keys[name])}
        if not missing:
            return False
        of_logits = missing.intersection(_NAMES[self._kind.logits])
        asked = (missing - of_logits) | ({_PREDICTIONS} if of_logits else set())
        found = {name: rounded(made) for name, made in self._live.tensors(batch, asked).items()}
        if of_logits:
            found |= self._predictions(found.pop(_PREDICTIONS), keys[min(of_logits)])
        for name in missing:
            self._store.put(name, keys[name], records_of(name, found[name], tokens))
        return True

    def write_maps(self, needs: Needs) -> None:
        """Keep the frozen maps that remake what is not kept."""
        maps: dict[str, Tensor] = {}
        if needs.predictions:
            maps |= _as_tensors("output", self._live.output)
        for kind, layer in sorted(needs.tensors()):
            if kind in _MADE and self._remakes(layer, needs):
                maps |= _as_tensors(f"{kind}-{layer}", self._maps_of(layer)[kind])
        self._store.folder.mkdir(parents=True, exist_ok=True)
        part = self._store.folder / f"{_MAPS}.part"
        save_file({name: tensor.contiguous().clone() for name, tensor in maps.items()}, part)
        part.replace(self._store.folder / _MAPS)

    def _predictions(self, features: Tensor, keys: Keys) -> dict[Name, Tensor]:
        if self._kind.logits == "exact":
            return {_PREDICTIONS: features}
        weight, bias = self._live.output
        weight = weight[: self._pieces]
        bias = None if bias is None else bias[: self._pieces]
        seed = (self._seed + int(keys.view(np.uint64).sum())) % 2**63  # another for each batch
        chance = torch.Generator(features.device).manual_seed(seed)
        found: list[list[Tensor]] = []
        for some in torch.split(features, _ROWS):
            logs = linear(some, weight, bias).float().log_softmax(-1)
            if self._kind.logits == "sampled":
                drawn = logs.exp().multinomial(
                    self._kind.pieces, replacement=True, generator=chance
                )
                found.append([drawn.int()])
                continue
            top, places = logs.topk(self._kind.pieces, dim=-1)
            rest = torch.log1p(-top.exp().sum(-1, keepdim=True).clamp_max(1 - 1e-7))
            found.append([places.int(), torch.cat([top, rest], dim=-1)])
        parts = [torch.cat(some) for some in zip(*found, strict=True)]
        if self._kind.logits == "top_k":
            parts[1] = parts[1].half()  # after: autocast joins no half
        return dict(zip(_NAMES[self._kind.logits], parts, strict=True))

    def _remakes(self, layer: int, needs: Needs) -> bool:
        """Whether queries, keys and values of a layer are made again from what entered them."""
        maps = self._maps_of(layer)
        kinds = [kind for kind in _MADE if (kind, layer) in needs.tensors()]
        if any(kind not in maps for kind in kinds):
            return False
        widths = [len(maps[kind][0]) for kind in kinds]
        return sum(widths) > maps[kinds[0]][0].shape[1]

    def _maps_of(self, layer: int) -> dict[str, OutputMap]:
        """The linear maps of a layer's attention by kind; what is no linear map is left out."""
        anatomy = self._live.anatomy
        layers = submodule(self._live.model.base_model, anatomy.layers)
        here = list(layers.children())[layer]
        paths = {"queries": anatomy.query, "keys": anatomy.key, "values": anatomy.value}
        if anatomy.fused:
            whole = _linear(submodule(here, anatomy.query))
            if whole is None:
                return {}
            weights = whole[0].chunk(3)
            biases = whole[1].chunk(3) if whole[1] is not None else [None] * 3
            return dict(zip(_MADE, zip(weights, biases, strict=True), strict=True))
        maps = {kind: _linear(submodule(here, path)) for kind, path in paths.items() if path}
        return {kind: found for kind, found in maps.items() if found is not None}


def _linear(module: nn.Module) -> OutputMap | None:
    if isinstance(module, nn.Linear):
        return module.weight.detach(), None if module.bias is None else module.bias.detach()
    if isinstance(module, Conv1D):
        return module.weight.detach().mT, module.bias.detach()
    return None


def _as_tensors(name: str, found: OutputMap) -> dict[str, Tensor]:
    weight, bias = found
    return {f"{name}.weight": weight.detach().cpu()} | (
        {} if bias is None else {f"{name}.bias": bias.detach().cpu()}
    )
