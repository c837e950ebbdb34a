"""A teacher that was run once by `limbeck cache`: its signals are read, its body is never loaded.

Source: Gu et al. 2024, MiniPLM, arXiv:2410.17215 (a teacher that is run once); samples
as an unbiased signal, Anshumann et al. 2025, arXiv:2503.16870.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import linear

from ..activations import (
    PREDICTIONS,
    Activations,
    Name,
    Needs,
    OutputMap,
    Predictions,
    Selected,
    as_activations,
)
from ..batch import Batch, Tokens
from ..errors import CacheError
from .manifest import Manifest
from .row_records import PREDICTIONS_AS, joined, keys_of
from .store import SignalStore

MAPS = "maps.safetensors"
SOFT_CAP = "output.soft_cap"  # among the maps, where the teacher's logits are bounded
_NEVER = -1e4  # the log-probability of tokens not drawn: finite, so that 0 times it is 0


class CachedTeacher:
    """The signals in a folder, given as a live teacher gives them."""

    def __init__(self, store: SignalStore, manifest: Manifest, maps: Mapping[str, Tensor]) -> None:
        """Read from ``store``; ``maps`` are the frozen maps that compute what is not stored."""
        self._store, self._manifest, self._maps = store, manifest, maps
        self._kind = manifest.kind

    @classmethod
    def opened(
        cls, folder: Path, manifest: Manifest, device: torch.device | str
    ) -> "CachedTeacher":
        """The signals in a folder.

        Raises:
            CacheError: Its maps cannot be read.
        """
        try:
            # Moved by torch: safetensors does not know every name of a device, as `cpu:0`.
            maps = {name: map_.to(device) for name, map_ in load_file(folder / MAPS).items()}
        except (OSError, SafetensorError) as error:
            raise CacheError(
                f"{folder / MAPS} cannot be read ({error}); run `limbeck cache` again"
            ) from error
        return cls(SignalStore(folder, 0, strict=True), manifest, maps)

    def missing(self, needs: Needs, stage: int, steps: int) -> dict[Name, int]:
        """The needed signals that lack steps of a stage, with how many steps of each are cached."""
        here = {
            name: min(self._manifest.steps_of(kept, stage) for kept in self._stored_as(name))
            for name in sorted(needs.tensors())
        }
        return {name: count for name, count in here.items() if count < steps}

    def _stored_as(self, name: Name) -> list[Name]:
        """The signals on disk from which a signal is made."""
        if name == PREDICTIONS:
            return PREDICTIONS_AS[self._kind.logits]
        return [("entered", name[1])] if self._computed(name) else [name]

    def _computed(self, name: Name) -> bool:
        kind, layer = name
        here = self._manifest.holds(("entered", layer))
        return here and f"{kind}-{layer}.weight" in self._maps

    @property
    def models(self) -> Sequence[nn.Module]:
        """None: signals are read."""
        return ()

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """The activations that ``needs`` names.

        Raises:
            CacheError: A signal is missing, or its shard is damaged.
        """
        if not needs.anything:
            return Activations()
        tokens, wanted = batch.teacher, needs.tensors()
        found: dict[Name, Tensor] = {}
        for kind, layer in wanted - {PREDICTIONS}:
            if not self._computed((kind, layer)):
                found[kind, layer] = self._read((kind, layer), tokens)
                continue
            entered = self._read(("entered", layer), tokens)
            # Maps are stored in the precision of the teacher's file.
            weight = self._map(f"{kind}-{layer}.weight").to(entered.dtype)
            bias = self._maps.get(f"{kind}-{layer}.bias")
            bias = None if bias is None else bias.to(entered.dtype)
            found[kind, layer] = linear(entered, weight, bias)
        if PREDICTIONS not in wanted:
            return as_activations(found, None)
        weight, bias = self._map("output.weight"), self._maps.get("output.bias")
        if self._kind.logits == "exact":
            found[PREDICTIONS] = self._read(PREDICTIONS, tokens)
            bound = self._maps.get(SOFT_CAP)
            output = OutputMap(weight, bias, None if bound is None else float(bound))
            return as_activations(found, output)
        nothing = weight.new_empty(int(tokens.predicted.sum()), 0)
        given = Predictions(nothing, weight[:, :0], None, selected=self._selected(tokens))
        return replace(as_activations(found, None), predictions=given)

    def _selected(self, tokens: Tokens) -> Selected:
        if self._kind.logits == "sampled":
            drawn = self._read(("drawn", 0), tokens).long()
            times = (drawn[:, :, None] == drawn[:, None, :]).sum(-1)
            logs = (times / drawn.shape[1]).log()
            return Selected(drawn, logs, torch.full_like(logs[:, 0], _NEVER))
        logs = self._read(("top_logs", 0), tokens).float()
        chosen = self._read(("top_tokens", 0), tokens).long()
        return Selected(chosen, logs[:, :-1], logs[:, -1])

    def _read(self, name: Name, tokens: Tokens) -> Tensor:
        keys = keys_of(tokens, {name})[name]
        records = self._store.get(name, keys)
        if records is None:
            raise CacheError(
                f"{self._store.folder} lacks {name[0]} (layer {name[1]}) of a row of the text; it"
                f" has {', '.join(sorted(self._manifest.steps))}. Run `limbeck cache` with this"
                " recipe"
            )
        return joined(name, records, tokens)

    def _map(self, name: str) -> Tensor:
        if name not in self._maps:
            raise CacheError(
                f"{self._store.folder} lacks the map {name}; run `limbeck cache` again"
            )
        return self._maps[name]
