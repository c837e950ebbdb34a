"""A decoder of a known family that is read without transformers' own forward, on a processor.

Keys and values lie in a static cache, rows that are finished are taken out of it, and only the
places that are filled are read. The weights are taken as they are when a batch begins. Before a
model is read so for the first time, its log-probabilities are compared with those of its own
forward; where they differ, its own forward is used.
"""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from ..models.int4_linear import Int4Linear
from ..models.int8_dynamic import Int8DynamicLinear
from ..token_ids import TokenIds
from .known_decoders import Decoder, Layer, Turns, decoder_of, is_known
from .reader import NewTokens, Places, Reader
from .static_reader import StaticReader
from .steady import has_steady_forward
from .windows import near, text_positions

_NEAR = 2e-3  # nats
_TRIED, _LENGTH = 2, 7  # texts, and tokens of each


def can_read_directly(model: PreTrainedModel) -> bool:
    """Whether a model is of a known family, whole, in one precision, on a processor."""
    weights = list(model.parameters())
    kinds = {weight.dtype for weight in weights}
    return (
        model.device.type == "cpu"
        and is_known(model)
        and has_steady_forward(model)
        and len(kinds) == 1
        and kinds <= {torch.float32, torch.float64}
        and not any(map(is_traceable_wrapper_subclass, weights))  # quantized or sharded
        and not any(isinstance(m, Int4Linear | Int8DynamicLinear) for m in model.modules())
        # What a hook does would be left out, and so would a forward of the module's own, as that
        # of a layer whose weights are rounded.
        and not any(
            part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
            for part in model.modules()
        )
    )


class DirectReader(StaticReader):
    """A reader with a forward of its own, of a model for which `can_read_directly` holds."""

    _decoder: Decoder | None = None  # of the weights of this batch

    def begin(self, rows: int) -> None:
        """Begin a new batch, of which nothing has been read, with the weights as they are now."""
        super().begin(rows)
        self._decoder = None

    def read(
        self, ids: NewTokens, positions: NewTokens, mask: Places
    ) -> Float[Tensor, "rows new vocabulary"]:
        """As `Reader.read`; each of the new places is taken to hold a token."""
        kind = self.model.device.type
        coarse = torch.is_autocast_enabled(kind)
        if self._decoder is None:
            self._decoder = decoder_of(self.model, places=self.static.places, coarse=coarse)
        # Products choose their precision themselves.
        with torch.autocast(kind, enabled=False) if coarse else nullcontext():
            hide = self.windows.hide(mask.shape[1])
            windows = self.windows.of_layers if hide else [None] * len(self.cache.layers)
            logits = _forward(self._decoder, self.cache, windows, ids, positions, mask)
        self.static.fill(ids.shape[1])
        return torch.log_softmax(self.ids.only(logits), dim=-1)

    def keep_rows(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep some rows only; the others are not read any more."""
        self.static.move_rows(rows)

    def end(self) -> None:
        """Let go of the weights that were laid out for this batch."""
        self._decoder = None


def _forward(
    decoder: Decoder,
    cache: Any,
    windows: Sequence[int | None],
    ids: NewTokens,
    positions: NewTokens,
    mask: Places,
) -> Float[Tensor, "rows new vocabulary"]:
    rows, new = ids.shape
    states = decoder.embedded(ids, positions).flatten(0, 1)
    turns = decoder.turns(positions) if decoder.turns else None
    shared = decoder.heads // decoder.groups
    hidden = {each: _hidden(mask, new, shared, each).to(states.dtype) for each in set(windows)}
    for layer, kept, window in zip(decoder.layers, cache.layers, windows, strict=True):
        read = _attended(decoder, layer, kept, turns, hidden[window], states)
        states = states + layer.attended(read)
        states = states + layer.feed_forward(states)
    return decoder.logits(states).view(rows, new, -1)


def _hidden(
    mask: Places, new: int, heads: int, window: int | None
) -> Float[Tensor, "rows 1 queries places"]:
    """What is added to scores: minus infinity at empty places, later tokens and beyond a window."""
    rows, places = mask.shape
    hidden = torch.zeros(rows, new, places, device=mask.device)
    hidden.masked_fill_(~mask[:, None], -torch.inf)
    if new > 1:
        later = torch.ones(new, new, dtype=torch.bool, device=mask.device).triu(1)
        hidden[..., places - new :].masked_fill_(later, -torch.inf)
    if window is not None:
        positions = text_positions(mask)
        hidden.masked_fill_(~near(positions[:, places - new :], positions, window), -torch.inf)
    return hidden[:, None].expand(-1, heads, -1, -1).reshape(rows, 1, heads * new, places)


def _attended(
    decoder: Decoder,
    layer: Layer,
    kept: Any,
    turns: Turns | None,
    hidden: Tensor,
    states: Float[Tensor, "tokens hidden"],
) -> Float[Tensor, "tokens heads_side_by_side"]:
    """What the heads of a layer read, side by side; keys and values are kept.

    The queries of all heads that share a head of keys and values are read as one head's.
    """
    heads, groups, rows = decoder.heads, decoder.groups, len(hidden)
    projected = layer.projected(layer.norm(states))
    vectors = projected.view(len(states), heads + 2 * groups, -1)
    turned, values = vectors.tensor_split([heads + groups], 1)
    if layer.head_norms:
        queries, keys = turned.tensor_split([heads], 1)
        turned = torch.cat([layer.head_norms[0](queries), layer.head_norms[1](keys)], 1)
    if turns:
        turned = torch.addcmul(turned * turns[0], turned.roll(turned.shape[-1] // 2, -1), turns[1])
    queries, keys = turned.tensor_split([heads], 1)
    new, size = len(states) // rows, turned.shape[-1]
    keys, values = kept.update(
        keys.view(rows, new, groups, size).transpose(1, 2),
        values.view(rows, new, groups, size).transpose(1, 2),
    )
    grouped = queries.reshape(rows, new, groups, heads // groups, size).permute(0, 2, 3, 1, 4)
    read = scaled_dot_product_attention(
        grouped.reshape(rows, groups, -1, size).to(keys.dtype), keys, values, hidden.to(keys.dtype)
    )
    read = read.view(rows, groups, heads // groups, new, size).permute(0, 3, 1, 2, 4)
    return read.reshape(len(states), heads * size).to(states.dtype)


@torch.no_grad()
def proven(model: PreTrainedModel, ids: TokenIds) -> bool:
    """Whether a model is read directly as by its own forward; a warning says where it is not.

    Two short texts are read in float32, one with empty places before and in between, as a draft
    and as a single token, with places that are forgotten and moved.

    Args:
        model: A decoder for which `can_read_directly` holds.
        ids: Those that the tokenizer has.
    """
    with torch.autocast(model.device.type, enabled=False):
        mine = _tried(DirectReader(model, ids, rows=_TRIED, places=8))
        own = _tried(Reader(model, ids))
    far = float((mine - own).abs().max())
    if far <= _NEAR:  # not where it is not a number
        return True
    warnings.warn(
        f"the forward of {type(model).__name__} that generation has of its own differs from the"
        f" model's by {far:.2g} nats; the model's is used, which is slower",
        stacklevel=2,
    )
    return False


def _tried(reader: Reader) -> Tensor:
    device = reader.model.device
    ids = torch.arange(_LENGTH * _TRIED, device=device).view(_TRIED, -1) * 31 % reader.ids.end
    positions = torch.arange(_LENGTH, device=device) - torch.arange(_TRIED, device=device)[:, None]
    mask, positions = positions >= 0, positions.clamp_min(0)
    reader.remember(ids[:, :3], positions[:, :3], mask[:, :3])
    found = [reader.read(ids[:, 3:6], positions[:, 3:6], mask[:, :6])]
    reader.forget_after(5)
    kept = torch.tensor([0, 1, 2, 4], device=device)
    reader.keep_places(kept.expand(_TRIED, -1))
    mask = torch.cat([mask[:, kept], torch.ones_like(mask[:, :1])], 1)
    mask[0, 1] = False
    found.append(reader.read(ids[:, 6:], positions[:, 6:], mask))
    return torch.cat([some.flatten() for some in found])
