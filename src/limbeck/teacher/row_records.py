"""The signals of a batch as records, one for each row of text, and the keys that find them again.

A key is a hash of the row's own tokens, so a record cannot belong to another text or masking, and
it is found however a batch is split.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from ..activations import CLASS_LOGITS, PREDICTIONS, SENTENCE_VECTORS, Name, float32_region
from ..batch import Tokens
from .store import Keys

# The signals that hold predictions on disk, by how predictions are stored.
PREDICTIONS_AS: dict[str, list[Name]] = {
    "exact": [PREDICTIONS],
    "top_k": [("top_tokens", 0), ("top_logs", 0)],
    "sampled": [("drawn", 0)],
}


def keys_of(tokens: Tokens, names: set[Name], *, teacher: bytes = b"") -> dict[Name, Keys]:
    """The key of each row, for each of the signals."""
    by_masking = {
        masked: row_keys(tokens, masking=masked, teacher=teacher)
        for masked in {only_predicted(n) for n in names}
    }
    return {name: by_masking[only_predicted(name)] for name in names}


def only_predicted(name: Name) -> bool:
    """Whether a signal has values only at the predicted positions."""
    return name == CLASS_LOGITS or any(name in names for names in PREDICTIONS_AS.values())


def records_of(name: Name, tensor: Tensor, tokens: Tokens) -> list[Tensor]:
    """The part of a signal that belongs to each row: one item for each real or predicted token.

    Of vectors of texts it is one item for each row.
    """
    if name == SENTENCE_VECTORS:
        return list(torch.split(tensor, 1))
    places = (tokens.predicted if only_predicted(name) else tokens.mask).to(tensor.device)
    flat = tensor if only_predicted(name) else tensor[places]
    return list(torch.split(flat, places.sum(-1).tolist()))


def joined(name: Name, records: list[Tensor], tokens: Tokens) -> Tensor:
    """The signal of the whole batch from the records of its rows; 0 at padding."""
    with float32_region(records[0]):  # autocast cannot concatenate float16
        flat = torch.cat(records).to(tokens.mask.device)
    if only_predicted(name) or name == SENTENCE_VECTORS:
        return flat
    found = flat.new_zeros(*tokens.mask.shape, flat.shape[-1])
    found[tokens.mask] = flat
    return found


def row_keys(tokens: Tokens, *, masking: bool, teacher: bytes = b"") -> Keys:
    """The key of each row: a hash of its real tokens and, with ``masking``, of which are predicted.

    Args:
        tokens: What the teacher reads.
        masking: Whether the signal depends on which tokens are to be predicted.
        teacher: Distinguishes teachers whose signals are in one store; 64 bytes at most.
    """
    read = [tokens.input_ids]
    read += [tokens.positions] if tokens.positions is not None else []
    read += [tokens.token_type_ids] if tokens.token_type_ids is not None else []
    read += [tokens.predicted.long()] if masking else []
    table = torch.stack(read, -1).cpu().numpy()
    real = tokens.mask.cpu().numpy()
    found = [
        hashlib.blake2b(row[mask].tobytes(), digest_size=8, key=teacher).digest()
        for row, mask in zip(table, real, strict=True)
    ]
    return np.frombuffer(b"".join(found), dtype=np.int64)
