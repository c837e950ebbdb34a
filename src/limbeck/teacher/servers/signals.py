"""A teacher on a server: what a store lacks is asked, stored, and read as a cache is.

So signals of a server that are used at once and those that `limbeck cache` has stored are the
same numbers.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray
from safetensors.torch import save_file
from torch import Tensor, nn

from ...activations import Activations, Name, Needs
from ...batch import Batch, Tokens
from ...errors import ServerError
from ...system.files import whole_file
from ...token_ids import TokenIds
from ..cached import MAPS, CachedTeacher
from ..manifest import Manifest
from ..row_records import PREDICTIONS_AS, keys_of
from ..store import Keys, SignalStore
from .client import ServerClient
from .log_probabilities import read_places, top_tokens

Row = tuple[Tensor, Tensor]  # ids and log-probabilities of a row, as a cache has them
_NAMES = PREDICTIONS_AS["top_k"]
_WAITING = 4  # rows that are asked or wait for it, for each request at once


class ServerSignals:
    """Asks a server for the log-probabilities of rows, and puts them into a store."""

    def __init__(
        self, client: ServerClient, store: SignalStore, *, tokens: TokenIds | int, top_k: int
    ) -> None:
        """The client knows its model; ``tokens`` are those of its tokenizer."""
        self._client, self._store, self._top_k = client, store, top_k
        self._ids = TokenIds.given(tokens)
        self._asked: deque[tuple[int, Future[Row]]] = deque()

    def names(self, needs: Needs) -> set[Name]:
        """The signals to store for such needs."""
        return set(_NAMES) if needs.predictions else set()

    def keep(self, batch: Batch, needs: Needs) -> bool:
        """Ask what is needed of a batch and not stored; `finish` waits for all of it.

        Returns:
            Whether anything had to be asked.

        Raises:
            ServerError: The server gave up on an earlier row; all that it answered is stored.
        """
        if not needs.predictions:
            return False
        tokens = batch.teacher.to("cpu")
        keys = keys_of(tokens, set(_NAMES))[_NAMES[0]]
        waiting = {key for key, _ in self._asked}
        asked = False
        for row, key in enumerate(keys.tolist()):
            one = _keys(key)
            if key in waiting or all(self._store.has(name, one) for name in _NAMES):
                continue
            ids, predicted = _real(tokens, row)
            starts = _starts(tokens, row)
            future = self._client.threads.submit(self._row, ids, predicted, starts)
            self._asked.append((key, future))
            waiting.add(key)
            asked = True
        while len(self._asked) > _WAITING * self._client.settings.concurrency:
            self._take()
        return asked

    def finish(self) -> None:
        """Wait for everything that was asked.

        Raises:
            ServerError: The server gave up on a row; all that it answered is stored.
        """
        while self._asked:
            self._take()

    def stop(self) -> None:
        """Ask nothing more, and store what has been answered."""
        asked, self._asked = self._asked, deque()
        for _, future in asked:
            future.cancel()
        for key, future in asked:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._put(key, future.result())

    def write_maps(self, needs: Needs) -> None:
        """Store that predictions come without features: a map of no columns."""
        self._store.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self._store.folder / MAPS) as part:
            save_file(self.maps("cpu"), part)

    def maps(self, device: torch.device | str) -> dict[str, Tensor]:
        """The map from no features to the vocabulary, which tells its size."""
        return {"output.weight": torch.zeros(self._ids.end, 0, device=device)}

    def _take(self) -> None:
        key, future = self._asked.popleft()
        self._put(key, future.result())

    def _put(self, key: int, row: Row) -> None:
        for name, record in zip(_NAMES, row, strict=True):
            self._store.put(name, _keys(key), [record])

    def _row(
        self, ids: Int[ndarray, " tokens"], predicted: Bool[ndarray, " tokens"], starts: list[int]
    ) -> Row:
        """The distributions at the predicted places of a row, of which each document is a text."""
        parts = [self._text(ids[a:b], predicted[a:b]) for a, b in pairwise([*starts, len(ids)])]
        tokens, logs = zip(*parts, strict=True)
        return torch.cat(tokens), torch.cat(logs)

    def _text(self, ids: Int[ndarray, " tokens"], predicted: Bool[ndarray, " tokens"]) -> Row:
        top = self._top_k
        if not predicted.any():
            return torch.empty(0, top, dtype=torch.int32), torch.empty(0, top + 1).half()
        if predicted[-1]:
            raise ServerError(
                "what follows a whole text is needed, and a server tells of the tokens in it alone"
            )
        found = read_places(self._client, ids.tolist(), top)
        # What a place predicts is said at the token behind it.
        wanted = [
            place for place, is_wanted in zip(found, predicted[:-1], strict=True) if is_wanted
        ]
        url = self._client.settings.url
        return top_tokens(wanted, top, self._ids, url).stored(len(self._ids))


class ServerTeacher:
    """A teacher on a server, for objectives that need its predictions alone."""

    def __init__(
        self,
        asked: ServerSignals,
        store: SignalStore,
        manifest: Manifest,
        device: torch.device | str,
    ) -> None:
        """What is asked goes into ``store``, and is read from there as the manifest says."""
        self._asked = asked
        self._kept = CachedTeacher(store, manifest, asked.maps(device))

    @property
    def models(self) -> Sequence[nn.Module]:
        """None: signals are read."""
        return ()

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """The activations that ``needs`` names.

        Raises:
            ServerError: The server fails; what it answered before is stored.
        """
        self._asked.keep(batch, needs)
        self._asked.finish()
        return self._kept.signals(batch, needs)


def _keys(key: int) -> Keys:
    return np.array([key], dtype=np.int64)


def _real(tokens: Tokens, row: int) -> tuple[Int[ndarray, " tokens"], Bool[ndarray, " tokens"]]:
    """The real tokens of a row, and which of them predict."""
    mask = tokens.mask[row]
    return tokens.input_ids[row][mask].numpy(), tokens.predicted[row][mask].numpy()


def _starts(tokens: Tokens, row: int) -> list[int]:
    """Where the documents of a row begin, of which each is read alone."""
    if tokens.positions is None:
        return [0]
    positions = tokens.positions[row][tokens.mask[row]].numpy()
    return [int(place) for place in np.flatnonzero(positions == 0)]


def texts_of(batches: Iterable[Batch], count: int) -> list[list[int]]:
    """The first texts of some batches in the teacher's token ids, for a probe."""
    found: list[list[int]] = []
    for batch in batches:
        tokens = batch.teacher.to("cpu")
        found += [_real(tokens, row)[0].tolist() for row in range(len(tokens.mask))]
        if len(found) >= count:
            break
    return found[:count]
