"""The states of a text's tokens become one vector; padding may stand at either end.

Source: Reimers and Gurevych 2019, "Sentence-BERT", arXiv:1908.10084; positions as weights,
Muennighoff 2022, "SGPT", arXiv:2202.08904. The numbers are those of sentence-transformers 6.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...errors import ModelError, nearest
from ..sentence_transformers import Pooling

States = Float[Tensor, "batch tokens hidden"]
Mask = Bool[Tensor, "batch tokens"]
Places = Int[Tensor, "batch tokens"]
Vectors = Float[Tensor, "batch width"]


def pooled(
    states: States,
    mask: Mask,
    pooling: Pooling,
    *,
    prompt_tokens: Int[Tensor, " batch"] | None = None,
) -> Vectors:
    """The states of each text as one vector; of several modes one after another.

    Args:
        states: Last hidden states, in the precision that is computed in.
        mask: Real tokens.
        pooling: Its modes, and whether prompts count.
        prompt_tokens: As for `SentenceVectors`.
    """
    places = mask.cumsum(1)  # counted from 1 at the first real token, wherever padding stands
    counted = mask
    if prompt_tokens is not None and not pooling.include_prompt:
        counted = mask & (places > prompt_tokens[:, None])
    return torch.cat([_MODES[mode](states, counted, places) for mode in pooling.modes], dim=-1)


def _first(states: States, counted: Mask, places: Places) -> Vectors:
    rows = torch.arange(states.shape[0], device=states.device)  # len() would fix it in an export
    return states[rows, counted.int().argmax(1)]


def _last(states: States, counted: Mask, places: Places) -> Vectors:
    return _first(states.flip(1), counted.flip(1), places)


def _max(states: States, counted: Mask, places: Places) -> Vectors:
    return states.masked_fill(~counted[..., None], -torch.inf).amax(1)


def _mean(states: States, counted: Mask, places: Places) -> Vectors:
    return _sum(states, counted) / counted.sum(1, keepdim=True).clamp(min=1)


def _mean_of_root(states: States, counted: Mask, places: Places) -> Vectors:
    return _sum(states, counted) / counted.sum(1, keepdim=True).clamp(min=1).sqrt()


def _weighted_mean(states: States, counted: Mask, places: Places) -> Vectors:
    weights = (places * counted).to(states.dtype)
    total = weights.sum(1, keepdim=True).clamp(min=1)
    return _sum(states * weights[..., None], counted) / total


def _sum(states: States, counted: Mask) -> Vectors:
    return states.masked_fill(~counted[..., None], 0).sum(1)


_MODES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_of_root,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
POOLING_MODES = tuple(_MODES)


def check_modes(modes: Sequence[str]) -> None:
    """See that modes of pooling are known.

    Raises:
        ModelError: One is not, or there is none.
    """
    if not modes:
        raise ModelError(f"the pooling names no mode; give one of {', '.join(_MODES)}")
    for mode in modes:
        if mode not in _MODES:
            raise ModelError(f"the pooling {mode!r} is not known{nearest(mode, _MODES)}")
