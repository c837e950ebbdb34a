"""A decoder whose forwards are recorded once as CUDA graphs, and replayed from then on.

A forward of a small model over a few new tokens takes a GPU less time than Python needs to start
its kernels. Here the kernels of a forward are recorded once for every number of new tokens, and
started together from then on. All they read and write stays at one address: keys and values in a
static cache, the new tokens in buffers, and the weights, whose values may be trained in place.
Empty places are masked; finished rows are read with the others and their results left out.

Source: CUDA graphs as in the notes of PyTorch, "CUDA semantics: CUDA Graphs".
"""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ..token_ids import TokenIds
from .reader import NewTokens, Places
from .static_reader import StaticReader
from .steady import has_steady_forward
from .windows import narrowed, near, text_positions


def can_replay(model: PreTrainedModel) -> bool:
    """Whether forwards of a model are the same kernels each time, on a GPU of its own."""
    return model.device.type == "cuda" and has_steady_forward(model)


class ReplayReader(StaticReader):
    """A reader that replays its forwards; prompts, whose lengths differ, are never replayed."""

    def __init__(
        self, model: PreTrainedModel, ids: TokenIds | int, *, rows: int, places: int
    ) -> None:
        super().__init__(model, ids, rows=rows, places=places)
        self.replays = model.device.type == "cuda"
        self.pool = torch.cuda.graph_pool_handle() if self.replays else None
        self._forwards: dict[int, _Forward] = {}

    def read(
        self, ids: NewTokens, positions: NewTokens, mask: Places
    ) -> Float[Tensor, "rows new vocabulary"]:
        """As `Reader.read`; each of the new places is taken to hold a token."""
        new = ids.shape[1]
        forward = self._forwards.get(new)
        if forward is None:
            forward = self._forwards[new] = _Forward(self, new)
        found = forward.read(self, ids, positions, mask[:, : self.static.used])
        self.static.fill(new)
        return found


class _Forward:
    """A forward over so many new tokens, in buffers whose addresses stay."""

    def __init__(self, reader: ReplayReader, new: int) -> None:
        rows, places = reader.static.rows, reader.static.places
        device = reader.model.device
        self.ids = torch.zeros(rows, new, dtype=torch.long, device=device)
        self.positions = torch.zeros_like(self.ids)
        self.places = torch.zeros(new, dtype=torch.long, device=device)
        # Of each window: which places a token sees.
        kinds = set(reader.windows.of_layers) if reader.windows.hide(places) else {None}
        seen = torch.zeros(rows, 1, new, places, dtype=torch.bool, device=device)
        self.masks = {window: seen.clone() for window in kinds | {None}}
        self.of_places = torch.zeros(rows, places, dtype=torch.long, device=device)
        self.among_new = torch.ones(new, new, dtype=torch.bool, device=device).tril()
        self.logs = torch.zeros(rows, new, reader.ids.end, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def read(self, reader: ReplayReader, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Log-probabilities of the open rows, as `Reader.read` gives them.

        Args:
            reader: Whose forward this is.
            ids: New tokens of the open rows.
            positions: Of each new token in its text.
            mask: True where one of the used places holds a token.
        """
        live, new = reader.static.live, ids.shape[1]
        self.ids[live], self.positions[live] = ids, positions
        self.places.copy_(reader.static.next_places(new))
        self._see(live, mask)
        if self.graph is not None:
            self.graph.replay()
        elif reader.replays:
            self._record(reader)
        else:
            self._run(reader)
        return self.logs[live]

    def _see(self, live: Tensor, mask: Tensor) -> None:
        """Fill the masks, of which the open rows see what is told of the used places."""
        used, new = mask.shape[1], len(self.among_new)
        seen = self.masks[None]
        seen[..., used:] = False
        # Finished rows attend to themselves at least: attention to nothing gives NaN.
        seen[:, 0, :, used : used + new] = self.among_new
        seen[live, 0, :, :used] = mask[:, None].expand(-1, new, -1)
        self.of_places[live, :used] = text_positions(mask)
        self.of_places[:, used : used + new] = self.positions
        for window, narrow in self.masks.items():
            if window is not None:
                narrow.copy_(narrowed(seen, near(self.positions, self.of_places, window)))

    def _run(self, reader: ReplayReader) -> None:
        with reader.static.fixed_shape(self.places):
            self.logs.copy_(torch.log_softmax(self._logits(reader), dim=-1))

    def _logits(self, reader: ReplayReader) -> Tensor:
        kind = reader.model.device.type
        # A copy of a weight that autocast keeps would not follow the weight as it is trained.
        with torch.autocast(
            kind,
            torch.get_autocast_dtype(kind),
            enabled=torch.is_autocast_enabled(kind),
            cache_enabled=False,
        ):
            output = reader.model(
                input_ids=self.ids,
                attention_mask=reader.windows.given(self._mask),
                position_ids=self.positions,
                cache=reader.cache,
                use_cache=True,
            )
        return reader.ids.only(output.logits)

    def _mask(self, window: int | None) -> Tensor:
        """Of a window; of all that is read, where no text is longer than any window."""
        return self.masks.get(window, self.masks[None])

    def _record(self, reader: ReplayReader) -> None:
        """Run once, and record the kernels for all forwards that follow."""
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
            torch.cuda.set_stream(stream)  # a recording that fails leaves its own stream current
            reader.replays = False
            name, why = type(reader.model).__name__, str(error).splitlines()[0]
            warnings.warn(
                f"the forward of {name} cannot be recorded as a CUDA graph ({why}); Python starts"
                " its kernels each time instead",
                stacklevel=2,
            )
            self._run(reader)
            return
        self.graph = graph
        graph.replay()
