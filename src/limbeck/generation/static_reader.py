"""A reader whose keys and values lie in a static cache, used for one batch after another."""

from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..token_ids import TokenIds
from .reader import NewTokens, Places, Reader
from .static_cache import StaticCache


class StaticReader(Reader):
    """A reader with a static cache; how it reads is up to what derives from it.

    Args:
        model: A decoder with a vocabulary head, whose attention is `sdpa`.
        ids: Those that the tokenizer has, or how many from 0 on.
        rows: Rows that are read at once, at most.
        places: Places of a text at most, empty ones in between included.

    Raises:
        ModelError: Some layer keeps something other than keys and values.
    """

    def __init__(
        self, model: PreTrainedModel, ids: TokenIds | int, *, rows: int, places: int
    ) -> None:
        super().__init__(model, ids)
        layers = len(DynamicCache(config=model.config).layers)
        self.static = StaticCache(layers, rows=rows, places=places, device=model.device)
        self.cache = self.static.cache

    def begin(self, rows: int) -> None:
        """Begin a new batch, of which nothing has been read."""
        self.static.begin(rows)

    def remember(self, ids: NewTokens, positions: NewTokens, mask: Places) -> None:
        """As `Reader.remember`, by the model's own forward."""
        super().remember(ids, positions, mask)
        self.static.fill(ids.shape[1])

    def forget_after(self, places: int) -> None:
        """Keep the first places only."""
        self.static.forget_after(places)

    def keep_rows(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep some rows open."""
        self.static.keep_rows(rows)

    def keep_places(self, places: Int[Tensor, "rows kept"]) -> None:
        """Keep some places of every open row, in the order given."""
        self.static.keep_places(places)
