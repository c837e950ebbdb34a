"""The readers of the models that generate, kept from batch to batch where that saves time."""

import torch
from transformers import PreTrainedModel

from ..token_ids import TokenIds
from .cuda_graphs import ReplayReader, can_replay
from .direct import DirectReader, can_read_directly, proven
from .reader import Reader, check_keeps_all


class Readers:
    """Gives a reader for each model of a batch; one with a static cache is used again.

    Args:
        cuda_graphs: Whether a GPU may replay forwards.
        direct: Whether a processor may read models of known families without transformers' forward.
    """

    def __init__(self, *, cuda_graphs: bool = True, direct: bool = True) -> None:
        self.cuda_graphs, self.direct = cuda_graphs, direct
        self._rows = self._places = 0
        self._kept: dict[tuple[str, torch.dtype | None], ReplayReader | DirectReader] = {}
        self._proofs: list[tuple[PreTrainedModel, bool]] = []

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values that stay until the next batch."""
        return sum(kept.static.nbytes for kept in self._kept.values())

    def expect(self, *, rows: int, places: int) -> None:
        """Make static caches at least this large, whatever the first batch needs."""
        self._rows, self._places = max(self._rows, rows), max(self._places, places)

    def of(
        self,
        who: str,
        model: PreTrainedModel,
        tokens: TokenIds | int,
        *,
        rows: int,
        places: int,
    ) -> Reader:
        """A reader that has read nothing.

        Args:
            who: Name of the model among those that generate together; the reader given before
                for this name, in the same precision, is no longer valid.
            model: A decoder with a vocabulary head.
            tokens: The ids that the tokenizer has, or how many from 0 on.
            rows: Of this batch.
            places: That its texts may take.

        Raises:
            ModelError: Some layer keeps something other than keys and values.
        """
        check_keeps_all(model)
        kind = self._kind(model, TokenIds.given(tokens))
        if kind is None:
            return Reader(model, tokens)
        self.expect(rows=rows, places=places)
        device = model.device.type
        coarse = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        kept = self._kept.pop((who, coarse), None)
        holds = kept is not None and kept.static.rows >= rows and kept.static.places >= places
        same = kept is not None and kept.model is model and kept.ids == TokenIds.given(tokens)
        if kept is None or not (same and holds) or type(kept) is not kind:
            kept = None  # its cache is freed before the next one is made
            kept = kind(model, tokens, rows=self._rows, places=self._places)
        self._kept[who, coarse] = kept
        kept.begin(rows)
        return kept

    def _kind(
        self, model: PreTrainedModel, ids: TokenIds
    ) -> type[ReplayReader] | type[DirectReader] | None:
        """The reader that a model can have instead of the plain one."""
        if self.cuda_graphs and can_replay(model):
            return ReplayReader
        if self.direct and can_read_directly(model) and self._is_proven(model, ids):
            return DirectReader
        return None

    def _is_proven(self, model: PreTrainedModel, ids: TokenIds) -> bool:
        """Whether a model may be read directly; each is tried once."""
        for other, holds in self._proofs:
            if other is model:
                return holds
        self._proofs.append((model, proven(model, ids)))
        return self._proofs[-1][1]
