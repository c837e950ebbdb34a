"""A teacher whose signals are kept on disk, so that several runs on the same text share them.

Of predictions only the features are kept: the output map makes the rest again.
"""

import torch
from torch import Tensor

from ..activations import PREDICTIONS, Activations, Name, Needs, as_activations, float32_region
from ..batch import Batch, Tokens
from .live import LiveTeacher
from .store import Keys, SignalStore, row_keys

# What predictions become on disk, by how they are kept.
PREDICTIONS_AS: dict[str, list[Name]] = {
    "exact": [PREDICTIONS],
    "top_k": [("top_tokens", 0), ("top_logs", 0)],
    "sampled": [("drawn", 0)],
}


class KeptTeacher:
    """A teacher that computes what the store lacks, and gives the rest from it.

    It gives what the live one gives, to the bit, so that a run does not depend on what was
    kept before it.
    """

    def __init__(
        self, live: LiveTeacher, store: SignalStore, *, worth: set[Name], identity: bytes
    ) -> None:
        """Keep what is ``worth`` keeping of what is computed.

        The ``identity`` tells it from other teachers, and from itself in another precision,
        whose signals stand in the same store.
        """
        self._live, self._store, self._worth = live, store, worth
        self._identity = identity

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


def keys_of(tokens: Tokens, names: set[Name], *, teacher: bytes = b"") -> dict[Name, Keys]:
    """What names the records of each row, for signals of those names."""
    by_masking = {
        masked: row_keys(tokens, masking=masked, teacher=teacher)
        for masked in {of_rows(n) for n in names}
    }
    return {name: by_masking[of_rows(name)] for name in names}


def of_rows(name: Name) -> bool:
    """Whether a signal stands at the predicted positions alone."""
    return any(name in names for names in PREDICTIONS_AS.values())


def records_of(name: Name, tensor: Tensor, tokens: Tokens) -> list[Tensor]:
    """What each row of the batch has of a signal: one item a real token, or a predicted one."""
    places = (tokens.predicted if of_rows(name) else tokens.mask).to(tensor.device)
    flat = tensor if of_rows(name) else tensor[places]
    return list(torch.split(flat, places.sum(-1).tolist()))


def joined(name: Name, records: list[Tensor], tokens: Tokens) -> Tensor:
    """The signal of the whole batch, 0 at padding."""
    with float32_region(records[0]):  # autocast joins no half
        flat = torch.cat(records).to(tokens.mask.device)
    if of_rows(name):
        return flat
    found = flat.new_zeros(*tokens.mask.shape, flat.shape[-1])
    found[tokens.mask] = flat
    return found
