"""A live teacher that stores its signals, so that later runs on the same text reuse them.

Of predictions only the features are stored: the output map computes the rest again.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ..activations import Activations, Name, Needs, as_activations
from ..batch import Batch
from .live import LiveTeacher
from .row_records import joined, keys_of, records_of
from .store import SignalStore


class MemoizedTeacher:
    """A live teacher that computes only those signals that its store lacks.

    Its signals are bit-identical to those of the live teacher, so that a run does not depend on
    what was stored before it.
    """

    def __init__(
        self, live: LiveTeacher, store: SignalStore, *, worth: set[Name], identity: bytes
    ) -> None:
        """Store, of the computed signals, those in ``worth``.

        The ``identity`` distinguishes this teacher from others whose signals are in the same
        store, and from itself in another precision.
        """
        self._live, self._store, self._worth = live, store, worth
        self._identity = identity

    @property
    def models(self) -> Sequence[nn.Module]:
        """Those of the live teacher."""
        return self._live.models

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """The activations that ``needs`` names."""
        if not needs.anything:
            return Activations()
        wanted, tokens = needs.tensors(), batch.teacher
        keys = keys_of(tokens, wanted, teacher=self._identity)
        found: dict[Name, Tensor] = {}
        for name in wanted:
            records = self._store.get(name, keys[name])
            if records is not None:
                found[name] = joined(name, records, tokens)
        if missing := wanted - found.keys():
            for name, tensor in self._live.tensors(batch, missing).items():
                records = records_of(name, tensor, tokens)
                found[name] = joined(name, records, tokens)
                if name in self._worth:
                    self._store.put(name, keys[name], records)
        return as_activations(found, self._live.output if needs.predictions else None)
