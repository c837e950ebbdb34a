"""The queries, keys and values that the layers of a model really attend with.

They are seen where attention is computed, by transformers' fused function or by a product of
matrices, so that they do not depend on what a model calls its modules.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from .tiny import TinyModel

_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)
_ADDED_PRODUCTS = (torch.baddbmm, Tensor.baddbmm)
Match = Literal["equal", "rotated"]


@dataclass(frozen=True)
class Attended:
    """What one layer attends with; rotated where its positions are rotary.

    Attributes:
        queries: By head.
        keys: By head, those of a group once or for every query head.
        values: Alike.
    """

    queries: Float[Tensor, "rows heads tokens width"]
    keys: Float[Tensor, "rows heads_or_groups tokens width"]
    values: Float[Tensor, "rows heads_or_groups tokens value_width"]


def attended(tiny: TinyModel) -> Mapping[int, Attended]:
    """What the layers of a tiny model attend with, by layer; others are left out."""
    seen = _Seen(*tiny.input_ids.shape)
    modules = list(tiny.body.get_submodule(tiny.layers).children())
    handles = [
        module.register_forward_pre_hook(partial(seen.enter, number), with_kwargs=True)
        for number, module in enumerate(modules)
    ]
    try:
        with torch.no_grad(), seen:
            tiny.body(input_ids=tiny.input_ids, attention_mask=torch.ones_like(tiny.input_ids))
    finally:
        for handle in handles:
            handle.remove()
    return seen.found


def match(captured: Any, seen: Float[Tensor, "rows heads tokens width"]) -> Match | None:
    """Whether captured vectors are those of attention, each head perhaps rotated; None if not.

    A constant factor, as that of attention scores, is allowed.

    Args:
        captured: What a module returned; vectors with joined heads have the shape
            (rows, tokens, joined).
        seen: What attention was computed from.
    """
    rows, heads, tokens, width = seen.shape
    if not isinstance(captured, Tensor) or captured.shape[:-1] != (rows, tokens):
        return None
    groups, rest = divmod(captured.shape[-1], width)
    if rest or not groups or heads % groups:
        return None
    by_head = captured.reshape(rows, tokens, groups, width).transpose(1, 2)
    by_head = by_head.repeat_interleave(heads // groups, dim=1)
    if _proportional(by_head, seen):
        return "equal"
    return "rotated" if _proportional(by_head.norm(dim=-1), seen.norm(dim=-1)) else None


def _proportional(one: Tensor, other: Tensor) -> bool:
    scale = (one * other).sum() / one.square().sum().clamp_min(1e-30)
    size = other.abs().mean()
    return bool(scale > 0) and bool((one * scale - other).abs().max() < 1e-3 * size)


class _Seen(TorchFunctionMode):
    """Watches the functions of a forward for those that compute attention."""

    def __init__(self, rows: int, tokens: int) -> None:
        super().__init__()
        self.found: dict[int, Attended] = {}
        self._rows, self._tokens = rows, tokens
        self._layer = -1
        self._scored: tuple[Tensor, Tensor] | None = None

    def enter(self, number: int, module: Any, arguments: Any, named: Any) -> None:
        """A layer begins."""
        self._layer, self._scored = number, None

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        arguments: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function, after a look at what it is given."""
        named = named or {}
        if self._layer >= 0 and self._layer not in self.found:
            if function is scaled_dot_product_attention:
                given = [*arguments, *(named[n] for n in ("query", "key", "value") if n in named)]
                self._take(*given[:3])
            elif function in _PRODUCTS and len(arguments) == 2:
                self._product(*arguments)
            elif function in _ADDED_PRODUCTS:
                given = [*arguments, *(named[n] for n in ("batch1", "batch2") if n in named)]
                self._product(*given[1:3])
        return function(*arguments, **named)

    def _product(self, left: Tensor, right: Tensor) -> None:
        tokens = self._tokens
        if left.dim() < 3 or right.dim() < 3:
            return
        if left.shape[-2] == tokens == right.shape[-1] and left.shape[-1] != tokens:
            if self._scored is None:  # later products are of positions
                self._scored = (left, right.mT)
        elif self._scored and left.shape[-2:] == (tokens, tokens) and right.shape[-2] == tokens:
            self._take(*self._scored, right)

    def _take(self, queries: Tensor, keys: Tensor, values: Tensor) -> None:
        parts = (queries, keys, values)
        if all(part.shape[-2] == self._tokens and part.dim() > 2 for part in parts):
            found = [p.detach().reshape(self._rows, -1, *p.shape[-2:]) for p in parts]
            self.found[self._layer] = Attended(*found)
