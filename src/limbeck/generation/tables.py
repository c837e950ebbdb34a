"""A reader whose forwards a GPU replays: keys and values in a table of fixed size.

A forward of a small model over a few new tokens is over sooner than Python has started its kernels.
Here all that a forward reads and writes lies at one address for good, so that the kernels of every
number of new tokens are recorded once, as a CUDA graph, and started together from then on. Weights
that learn in place are read as they are. Places that hold nothing are masked, rows that have ended
are read on and not looked at.

Source: CUDA graphs as in the notes of PyTorch, "CUDA semantics: CUDA Graphs".
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ..token_ids import TokenIds
from .reader import Reader

_STEADY = ("default", "linear", "llama3", "yarn")  # ways of rotary positions
_ROUND = 64  # places: the kernels of attention like whole blocks


@dataclass
class _Where:
    """Where the next forward writes.

    Attributes:
        rows: Of the table.
        places: Of each row.
        used: Places that were written, by the longest row.
        new: Place numbers as a tensor, within a forward of fixed shape; None says those after
            the used ones, and that only as much of the table is read.
    """

    rows: int
    places: int
    used: int = 0
    new: Int[Tensor, " new"] | None = None


class _TableLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer."""

    def __init__(self, where: _Where) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.where = where

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new ones, and give what is to be looked at."""
        self.keys = self._with(self.keys, key_states)
        self.values = self._with(self.values, value_states)
        if self.where.new is not None:
            return self.keys, self.values
        rows, end = len(key_states), self.where.used + key_states.shape[2]
        return self.keys[:rows, :, :end], self.values[:rows, :, :end]

    def _with(self, table: Tensor | None, new: Tensor) -> Tensor:
        """A table, the same one from the second time on, in which the new places are written."""
        where = self.where
        if table is None:
            # No garbage: what is masked is multiplied by 0 all the same.
            table = new.new_zeros(where.rows, new.shape[1], where.places, new.shape[3])
        if where.new is not None:
            return table.index_copy_(2, where.new, new)
        table[: len(new), :, where.used : where.used + new.shape[2]] = new
        return table

    def get_seq_length(self) -> int:
        """Places that were written."""
        return self.where.used


class TableReader(Reader):
    """A reader of so many rows and places at most, used for one batch after another.

    Args:
        model: A decoder with a vocabulary head, whose attention is `sdpa`.
        ids: Those that the tokenizer has, or how many from 0 on.
        rows: Most that are read at once.
        places: Most that any text takes, those that stay empty in between included.

    Raises:
        ModelError: As `Reader`.
    """

    def __init__(
        self, model: PreTrainedModel, ids: TokenIds | int, *, rows: int, places: int
    ) -> None:
        super().__init__(model, ids)
        self.where = _Where(rows, -(-places // _ROUND) * _ROUND)
        layers = len(DynamicCache(config=model.config).layers)
        self.cache = Cache(layers=[_TableLayer(self.where) for _ in range(layers)])
        self.replays = model.device.type == "cuda"
        self.pool = torch.cuda.graph_pool_handle() if self.replays else None
        self._numbers = torch.arange(self.where.places, device=model.device)
        self._forwards: dict[int, _Forward] = {}
        self.begin(rows)

    def begin(self, rows: int) -> None:
        """A new batch; nothing has been read of it."""
        self.where.used = 0
        self.live = self._numbers[:rows]

    def read(
        self,
        ids: Int[Tensor, "rows new"],
        positions: Int[Tensor, "rows new"],
        mask: Bool[Tensor, "rows places"],
    ) -> Float[Tensor, "rows new vocabulary"]:
        """As of any reader; the new places are taken to hold a token each."""
        new = ids.shape[1]
        forward = self._forwards.get(new)
        if forward is None:
            forward = self._forwards[new] = _Forward(self, new)
        places = self._numbers[self.where.used : self.where.used + new]
        found = forward.read(self, ids, positions, mask[:, : self.where.used], places)
        self.where.used += new
        return found

    def remember(
        self,
        ids: Int[Tensor, "rows new"],
        positions: Int[Tensor, "rows new"],
        mask: Bool[Tensor, "rows places"],
    ) -> None:
        """As of any reader; never replayed, as every batch of prompts has a length of its own."""
        super().remember(ids, positions, mask)
        self.where.used += ids.shape[1]

    def forget_after(self, places: int) -> None:
        """Only the first places stay."""
        self.where.used = places

    def keep_rows(self, rows: Int[Tensor, " kept"]) -> None:
        """Only some rows are looked at from now on."""
        self.live = self.live[rows]

    def keep_places(self, places: Int[Tensor, "rows kept"]) -> None:
        """Of every row only some places stay, in the order given."""
        kept = places.shape[1]
        index = places[:, None, :, None]
        for layer in self._layers():
            for table in (layer.keys, layer.values):
                moved = table[self.live].gather(
                    2, index.expand(-1, table.shape[1], -1, table.shape[3])
                )
                table[self.live, :, :kept] = moved
        self.where.used = kept


class _Forward:
    """A forward over so many new tokens, in buffers whose addresses stay."""

    def __init__(self, reader: TableReader, new: int) -> None:
        rows, places = reader.where.rows, reader.where.places
        device = reader.model.device
        self.ids = torch.zeros(rows, new, dtype=torch.long, device=device)
        self.positions = torch.zeros_like(self.ids)
        self.places = torch.zeros(new, dtype=torch.long, device=device)
        self.mask = torch.zeros(rows, 1, new, places, dtype=torch.bool, device=device)
        self.among_new = torch.ones(new, new, dtype=torch.bool, device=device).tril()
        self.logs = torch.zeros(rows, new, reader.ids.end, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def read(
        self, reader: TableReader, ids: Tensor, positions: Tensor, mask: Tensor, places: Tensor
    ) -> Tensor:
        """Log-probabilities of the rows that are looked at, as `Reader.read` gives them."""
        used = mask.shape[1]
        self.ids[reader.live], self.positions[reader.live] = ids, positions
        self.places.copy_(places)
        self.mask[..., used:] = False
        # Rows that have ended see themselves at least: what sees nothing is no number.
        self.mask[:, 0, :, used : used + len(places)] = self.among_new
        self.mask[reader.live, 0, :, :used] = mask[:, None].expand(-1, len(places), -1)
        if self.graph is not None:
            self.graph.replay()
        elif reader.replays:
            self._record(reader)
        else:
            self._run(reader)
        return self.logs[reader.live]

    def _run(self, reader: TableReader) -> None:
        reader.where.new = self.places
        try:
            self.logs.copy_(torch.log_softmax(self._logits(reader), dim=-1))
        finally:
            reader.where.new = None

    def _logits(self, reader: TableReader) -> Tensor:
        kind = reader.model.device.type
        # A copy of a weight that autocast keeps would stay behind when the weight learns.
        with torch.autocast(
            kind,
            torch.get_autocast_dtype(kind),
            enabled=torch.is_autocast_enabled(kind),
            cache_enabled=False,
        ):
            output = reader.model(
                input_ids=self.ids,
                attention_mask=self.mask,
                position_ids=self.positions,
                cache=reader.cache,
                use_cache=True,
            )
        return reader.ids.only(output.logits)

    def _record(self, reader: TableReader) -> None:
        """Read once as it is, and record the same for all times after."""
        stream = torch.cuda.current_stream()
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(stream)
        with torch.cuda.stream(beside):
            for _ in range(2):  # what is set up at first is not recorded
                self._run(reader)
        stream.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=reader.pool, capture_error_mode="thread_local"):
                self._run(reader)
        except RuntimeError as error:
            torch.cuda.set_stream(stream)  # a recording that breaks off leaves its own in place
            reader.replays = False
            name, why = type(reader.model).__name__, str(error).splitlines()[0]
            warnings.warn(
                f"the forward of {name} cannot be recorded as a CUDA graph ({why}); it is started"
                " from Python each time",
                stacklevel=2,
            )
            self._run(reader)
            return
        self.graph = graph
        graph.replay()


class Readers:
    """The readers of the models that write, kept from batch to batch where that saves time.

    Args:
        graphs: Whether a GPU may replay forwards.
    """

    def __init__(self, *, graphs: bool = True) -> None:
        self.graphs = graphs
        self._rows = self._places = 0
        self._kept: dict[tuple[str, torch.dtype | None], TableReader] = {}

    def expect(self, *, rows: int, places: int) -> None:
        """Tables will hold as much as this, whatever the first batch needs."""
        self._rows, self._places = max(self._rows, rows), max(self._places, places)

    def of(
        self, who: str, model: PreTrainedModel, tokens: TokenIds | int, *, rows: int, places: int
    ) -> Reader:
        """A reader that has read nothing.

        Args:
            who: Of those that write together; the reader before of the same name, in the same
                precision, is given up.
            model: A decoder with a vocabulary head.
            tokens: The ids that the tokenizer has, or how many from 0 on.
            rows: Of this batch.
            places: That its texts may take.

        Raises:
            ModelError: As `Reader`.
        """
        if not (self.graphs and can_replay(model)):
            return Reader(model, tokens)
        self.expect(rows=rows, places=places)
        kind = model.device.type
        coarse = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        kept = self._kept.pop((who, coarse), None)
        holds = kept is not None and kept.where.rows >= rows and kept.where.places >= places
        same = kept is not None and kept.model is model and kept.ids == TokenIds.given(tokens)
        if kept is None or not same or not holds:
            kept = None  # its table is free before the next is made
            kept = TableReader(model, tokens, rows=self._rows, places=self._places)
        self._kept[who, coarse] = kept
        kept.begin(rows)
        return kept


def can_replay(model: PreTrainedModel) -> bool:
    """Whether forwards of a model are the same kernels each time, on a GPU of its own."""
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [some for some in rope.values() if isinstance(some, dict)] or [rope]
    return (
        model.device.type == "cuda"
        and config._attn_implementation == "sdpa"
        and not getattr(config, "alibi", False)  # these ask the mask where tokens are
        # Others hang on the length.
        and all(some.get("rope_type", "default") in _STEADY for some in kinds)
    )
