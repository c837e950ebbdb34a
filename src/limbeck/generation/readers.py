"""The readers of the models that generate, kept from batch to batch where that saves time."""

import torch
from transformers import PreTrainedModel

from ..token_ids import TokenIds
from .cuda_graphs import ReplayReader, can_replay
from .reader import Reader


class Readers:
    """Gives a reader for each model of a batch; one that replays forwards is used again.

    Args:
        cuda_graphs: Whether a GPU may replay forwards.
    """

    def __init__(self, *, cuda_graphs: bool = True) -> None:
        self.cuda_graphs = cuda_graphs
        self._rows = self._places = 0
        self._kept: dict[tuple[str, torch.dtype | None], ReplayReader] = {}

    def expect(self, *, rows: int, places: int) -> None:
        """Make static caches at least this large, whatever the first batch needs."""
        self._rows, self._places = max(self._rows, rows), max(self._places, places)

    def of(
        self, who: str, model: PreTrainedModel, tokens: TokenIds | int, *, rows: int, places: int
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
            ModelError: Some layer does not keep the keys and values of all tokens.
        """
        if not (self.cuda_graphs and can_replay(model)):
            return Reader(model, tokens)
        self.expect(rows=rows, places=places)
        kind = model.device.type
        coarse = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        kept = self._kept.pop((who, coarse), None)
        holds = kept is not None and kept.static.rows >= rows and kept.static.places >= places
        same = kept is not None and kept.model is model and kept.ids == TokenIds.given(tokens)
        if kept is None or not same or not holds:
            kept = None  # its cache is freed before the next one is made
            kept = ReplayReader(model, tokens, rows=self._rows, places=self._places)
        self._kept[who, coarse] = kept
        kept.begin(rows)
        return kept
