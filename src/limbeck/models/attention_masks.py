"""Attention masks that are made without a question to the device.

Where no token is padding, transformers leaves the mask out, and where no row holds several
documents, it does not keep any apart. To know which, it reads an answer from the device in every
forward, and the process waits until all work before that is done. The tokens of a batch know both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionMaskInterface, masking_utils
from transformers.masking_utils import eager_mask, sdpa_mask

from ..batch import Tokens

Mask = Callable[..., Tensor | None]


class _Known(NamedTuple):
    """What is known of the tokens of a forward: padding, and documents where rows hold several."""

    padded: bool
    documents: Tensor | None
    filled: bool


_known: ContextVar[_Known | None] = ContextVar("known", default=None)


@contextmanager
def known_masks(tokens: Tokens, *, filled: bool = False) -> Iterator[None]:
    """Within this context transformers makes the same masks for these tokens, and reads nothing.

    Args:
        tokens: Of the forward.
        filled: Let a token that attends to nothing, which padding far from any text does within a
            window, attend to everything: its share of nothing is 0 in torch, and undefined
            elsewhere.
    """
    find = _installed()
    documents = tokens.documents
    if tokens.here.positions is not None and find(tokens.here.positions) is None:
        documents = None
    token = _known.set(_Known(not tokens.all_real, documents, filled))
    try:
        yield
    finally:
        _known.reset(token)


def from_known(make: Mask) -> Mask:
    """A maker of masks that asks the device nothing within `known_masks`."""

    def mask(
        *sizes: Any,
        attention_mask: Tensor | None = None,
        allow_is_causal_skip: bool = True,
        allow_is_bidirectional_skip: bool = False,
        **others: Any,  # transformers passes more arguments by name
    ) -> Tensor | None:
        known = _known.get()
        if known is not None and attention_mask is not None:
            attention_mask = attention_mask if known.padded else None
            allow_is_causal_skip = allow_is_causal_skip and not known.padded
            allow_is_bidirectional_skip = allow_is_bidirectional_skip and not known.padded
        found = make(
            *sizes,
            attention_mask=attention_mask,
            allow_is_causal_skip=allow_is_causal_skip,
            allow_is_bidirectional_skip=allow_is_bidirectional_skip,
            **others,
        )
        if known is not None and known.filled and found is not None and found.dtype == torch.bool:
            return found | ~found.any(-1, keepdim=True)
        return found

    return mask


@cache
def _installed() -> Callable[[Tensor], Tensor | None]:
    """Let transformers make masks from what is known; returns its own search for documents.

    Outside of `known_masks` everything stays as it is. The search has no public place where another
    could be registered; tests/models/test_attention_masks.py fails when it goes or is not called.
    """
    AttentionMaskInterface.register("sdpa", from_known(sdpa_mask))
    AttentionMaskInterface.register("eager", from_known(eager_mask))
    find: Callable[[Tensor], Tensor | None] = masking_utils.find_packed_sequence_indices

    def documents_of(position_ids: Tensor) -> Tensor | None:
        known = _known.get()
        return find(position_ids) if known is None else known.documents

    masking_utils.find_packed_sequence_indices = documents_of
    return find
