"""Run a teacher once and store the signals that objectives need, for `CachedTeacher` to read.

Of predictions either the input of the output map is stored, or some tokens of each
distribution. Of queries, keys and values their common input is stored where that is smaller;
the frozen maps that compute them from it are stored once.
"""

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import linear

from ..activations import PREDICTIONS, Name, Needs, OutputMap, log_rest, soft_capped
from ..batch import Batch
from ..system.files import whole_file
from ..token_ids import TokenIds
from .cached import MAPS, SOFT_CAP
from .live import LiveTeacher
from .manifest import Kind
from .row_records import PREDICTIONS_AS, keys_of, records_of
from .store import Keys, SignalStore
from .stored_names import stored_maps, stored_names

_ROWS = 256  # distributions at once


class CacheWriter:
    """Runs a teacher and stores the signals that objectives need."""

    def __init__(
        self,
        live: LiveTeacher,
        store: SignalStore,
        kind: Kind,
        *,
        tokens: TokenIds | int,
        seed: int,
    ) -> None:
        """Predictions are over the ids ``tokens``, or over that many; ``seed`` fixes the draws."""
        self._live, self._store, self._kind = live, store, kind
        self._ids, self._seed = TokenIds.given(tokens), seed

    def names(self, needs: Needs) -> set[Name]:
        """The signals to store for such needs."""
        return stored_names(needs, self._kind, self._live.model, self._live.architecture)

    def keep(self, batch: Batch, needs: Needs) -> bool:
        """Store what is needed of a batch; returns whether the teacher had to run for it."""
        tokens, names = batch.teacher, self.names(needs)
        keys = keys_of(tokens, names)
        missing = {name for name in names if not self._store.has(name, keys[name])}
        if not missing:
            return False
        of_logits = missing.intersection(PREDICTIONS_AS[self._kind.logits])
        to_compute = (missing - of_logits) | ({PREDICTIONS} if of_logits else set())
        found = self._live.tensors(batch, to_compute)
        if of_logits:
            found |= self._predictions(found.pop(PREDICTIONS), keys[min(of_logits)])
        for name in missing:
            self._store.put(name, keys[name], records_of(name, found[name], tokens))
        return True

    def write_maps(self, needs: Needs) -> None:
        """Store the frozen maps that these needs take, beside those of other recipes."""
        file = self._store.folder / MAPS
        try:
            maps: dict[str, Tensor] = load_file(file)
        except (OSError, SafetensorError):
            maps = {}  # there are none, or they are damaged; they are written again
        if needs.predictions:
            maps |= _as_tensors("output", self._live.output)
        for (kind, layer), output in stored_maps(
            needs, self._live.model, self._live.architecture
        ).items():
            maps |= _as_tensors(f"{kind}-{layer}", output)
        self._store.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            save_file({name: tensor.contiguous().clone() for name, tensor in maps.items()}, part)

    def _predictions(self, features: Tensor, keys: Keys) -> dict[Name, Tensor]:
        if self._kind.logits == "exact":
            return {PREDICTIONS: features}
        weight, bias, soft_cap = self._live.output
        weight = weight[: self._ids.end]
        bias = None if bias is None else bias[: self._ids.end]
        seed = (self._seed + int(keys.view(np.uint64).sum())) % 2**63  # differs for each batch
        chance = torch.Generator(features.device).manual_seed(seed)
        found: list[list[Tensor]] = []
        for some in torch.split(features, _ROWS):
            # The map may be stored in a lower precision than that of the computation.
            of_rows = None if bias is None else bias.to(some.dtype)
            logits = linear(some, weight.to(some.dtype), of_rows)
            if soft_cap is not None:
                logits = soft_capped(logits, soft_cap)
            logs = self._ids.only(logits).log_softmax(-1)
            if self._kind.logits == "sampled":
                drawn = logs.exp().multinomial(
                    self._kind.tokens, replacement=True, generator=chance
                )
                found.append([drawn.int()])
                continue
            top, places = logs.topk(self._kind.tokens, dim=-1)
            found.append([places.int(), torch.cat([top, log_rest(logs, places)], dim=-1)])
        parts = [torch.cat(some) for some in zip(*found, strict=True)]
        if self._kind.logits == "top_k":
            parts[1] = parts[1].half()  # only now, as autocast cannot concatenate float16
        return dict(zip(PREDICTIONS_AS[self._kind.logits], parts, strict=True))


def _as_tensors(name: str, found: OutputMap) -> dict[str, Tensor]:
    tensors = {f"{name}.weight": found.weight.detach().cpu()}
    if found.bias is not None:
        tensors[f"{name}.bias"] = found.bias.detach().cpu()
    if found.soft_cap is not None:
        tensors[SOFT_CAP] = torch.tensor(found.soft_cap)
    return tensors
