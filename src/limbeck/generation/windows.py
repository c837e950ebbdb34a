"""Which tokens of a text a layer with a sliding window sees, where its places may be empty.

transformers counts the places of its cache. Here rejected drafts and padding leave places empty,
and all keys and values are kept; a window counts the tokens of the text alone.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..models.families.attending import layer_windows

Mask = TypeVar("Mask")


class Windows:
    """The sliding windows of a model's layers.

    Args:
        config: Of the model.

    Attributes:
        of_layers: Tokens that each layer sees, the new one included; None where it sees all.
    """

    def __init__(self, config: Any) -> None:
        self.of_layers = layer_windows(config)
        self._narrowest = min((each for each in self.of_layers if each is not None), default=None)
        self._types = getattr(config.get_text_config(decoder=True), "layer_types", None)

    def hide(self, places: int) -> bool:
        """Whether some layer may not see all tokens of texts in so many places."""
        return self._narrowest is not None and places > self._narrowest

    def given(self, make: Callable[[int | None], Mask]) -> Mask | dict[str, Mask]:
        """What a model takes as its attention mask: one, or one for each type of layer.

        Args:
            make: The mask of a window.
        """
        kinds = set(self.of_layers)
        if len(kinds) == 1:
            return make(*kinds)
        masks = {window: make(window) for window in kinds}
        return {
            name: masks[window]
            for name, window in zip(self._types or (), self.of_layers, strict=True)
        }


def text_positions(mask: Bool[Tensor, "rows places"]) -> Int[Tensor, "rows places"]:
    """Of the token in each place; in an empty place, that of the token before it."""
    return mask.cumsum(-1) - 1


def near(
    positions: Int[Tensor, "rows new"], of_places: Int[Tensor, "rows places"], window: int
) -> Bool[Tensor, "rows new places"]:
    """Whether a new token has the token of a place in its window, or before its own place."""
    return positions[:, :, None] - of_places[:, None] < window


def narrowed(mask: Tensor, seen: Bool[Tensor, "rows new places"]) -> Tensor:
    """An attention mask, of truth values or added to scores, that hides what is not seen, too."""
    if mask.dtype == torch.bool:
        return mask & seen[:, None]
    return mask.masked_fill(~seen[:, None], torch.finfo(mask.dtype).min)
