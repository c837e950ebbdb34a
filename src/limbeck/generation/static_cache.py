"""Keys and values in tensors of fixed size, in which rows and places are overwritten in place.

All that a forward reads and writes stays at one address, so that a GPU can replay it.

transformers has a static cache too (`StaticLayer`), but there the forward itself counts the places,
and all rows are always read: drafts that are rejected, rows that are finished and places that are
moved have no part in it. `_StaticLayer` implements the interface that transformers offers for a
cache layer of one's own, `CacheLayerMixin`; `tests/generation/test_static_cache.py` fails where a
model asks more of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

_ROUND = 64  # places: attention kernels are faster on whole blocks


@dataclass
class _Size:
    """How large the tensors are, and where the next forward writes.

    Attributes:
        rows: Of the tensors.
        places: Of each row.
        used: Places that are filled, in the row that has the most.
        new: The numbers of the new places as a tensor, within a forward of fixed shape, which
            reads all places; None: the places after the used ones, and only those up to there
            are read.
    """

    rows: int
    places: int
    used: int = 0
    new: Int[Tensor, " new"] | None = None


class StaticCache:
    """Keys and values of all layers of a decoder, for one batch after another.

    Args:
        layers: Of the model.
        rows: Rows that are read at once, at most.
        places: Places of a text at most, empty ones in between included.
        device: Of the model.

    Attributes:
        cache: What the model takes as its cache.
        live: Numbers of the rows that are open.
    """

    def __init__(self, layers: int, *, rows: int, places: int, device: torch.device) -> None:
        self._size = _Size(rows, -(-places // _ROUND) * _ROUND)
        self.cache = Cache(layers=[_StaticLayer(self._size) for _ in range(layers)])
        self._numbers = torch.arange(self._size.places, device=device)
        self.begin(rows)

    @property
    def rows(self) -> int:
        """Rows that are read at once, at most."""
        return self._size.rows

    @property
    def places(self) -> int:
        """Places of a text, at most."""
        return self._size.places

    @property
    def used(self) -> int:
        """Places that are filled, in the row that has the most."""
        return self._size.used

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values; 0 before the first are stored."""
        layers: list[Any] = self.cache.layers
        made = (layer for layer in layers if layer.is_initialized)
        return sum(table.nbytes for layer in made for table in (layer.keys, layer.values))

    def begin(self, rows: int) -> None:
        """Begin a new batch, of which nothing has been read."""
        self._size.used = 0
        self.live = self._numbers[:rows]

    def fill(self, new: int) -> None:
        """Count the places that a forward has filled."""
        self._size.used += new

    def next_places(self, new: int) -> Int[Tensor, " new"]:
        """The numbers of the places that a forward over so many new tokens fills."""
        return self._numbers[self._size.used : self._size.used + new]

    @contextmanager
    def fixed_shape(self, places: Int[Tensor, " new"]) -> Iterator[None]:
        """Within, a forward reads all places, and fills those whose numbers stand in a tensor."""
        self._size.new = places
        try:
            yield
        finally:
            self._size.new = None

    def forget_after(self, places: int) -> None:
        """Keep the first places only."""
        self._size.used = places

    def keep_rows(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep some of the open rows open."""
        self.live = self.live[rows]

    def move_rows(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep some of the open rows, moved together so that no other is read any more."""
        layers: list[Any] = self.cache.layers
        for layer in layers:
            for table in (layer.keys, layer.values):
                table[: len(rows), :, : self.used] = table[rows, :, : self.used]
        self.live = self._numbers[: len(rows)]

    def keep_places(self, places: Int[Tensor, "rows kept"]) -> None:
        """Keep some places of every open row, in the order given."""
        kept = places.shape[1]
        index = places[:, None, :, None]
        layers: list[Any] = self.cache.layers
        for layer in layers:
            for table in (layer.keys, layer.values):
                moved = table[self.live].gather(
                    2, index.expand(-1, table.shape[1], -1, table.shape[3])
                )
                table[self.live, :, :kept] = moved
        self._size.used = kept


class _StaticLayer(CacheLayerMixin):
    """Keys and values of one layer."""

    is_sliding = False

    def __init__(self, size: _Size) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.size = size

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the tensors, with as many heads as the first keys and values have."""
        self.device = key_states.device
        self.keys, self.values = self._empty(key_states), self._empty(value_states)
        self.is_initialized = True

    def _empty(self, new: Tensor) -> Tensor:
        # Rotary positions leave keys in float32, which attention rounds under autocast: they are
        # kept as it reads them. Zeros, not whatever the memory holds: what is masked is multiplied
        # by 0 all the same.
        kind = new.device.type
        coarse = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else new.dtype
        shape = (self.size.rows, new.shape[1], self.size.places, new.shape[3])
        return new.new_zeros(shape, dtype=coarse)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store the new keys and values, and return those that attention is to read."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._stored(self.keys, key_states), self._stored(self.values, value_states)

    def _stored(self, table: Any, new: Tensor) -> Tensor:
        new = new.to(table.dtype)
        size, end = self.size, self.size.used + new.shape[2]
        if size.new is not None:
            return torch.Tensor.index_copy_(table, 2, size.new, new)
        table[: len(new), :, size.used : end] = new
        read: Tensor = table[: len(new), :, :end]
        return read

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Places that a mask covers, and the first of them."""
        return self.size.used + query_length, 0

    def get_seq_length(self) -> int:
        """Places that are filled."""
        return self.size.used

    def get_max_length(self) -> int:
        """Places of a row."""
        return self.size.places
