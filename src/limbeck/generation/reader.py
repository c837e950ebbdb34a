"""A decoder with a cache of keys and values, from which rows and places can be taken out."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.masking_utils import create_causal_mask

from ..errors import ModelError
from ..models.families.attending import forgetting_layers
from ..token_ids import TokenIds
from .windows import Windows, narrowed, near, text_positions

NewTokens = Int[Tensor, "rows new"]
Places = Bool[Tensor, "rows places"]


def forgetting_problem(config: Any) -> str | None:
    """Why a model cannot generate text here, if it cannot.

    Some layer keeps something other than keys and values, so that places cannot be left empty.
    """
    if not (kinds := forgetting_layers(config)):
        return None
    return (
        f"keeps {', '.join(kinds)}, and limbeck generates text only by models whose layers all keep"
        " keys and values (full attention or sliding windows)"
    )


def check_keeps_all(model: PreTrainedModel) -> None:
    """See that every layer of a model keeps the keys and values of a text.

    Raises:
        ModelError: As `forgetting_problem` says.
    """
    if problem := forgetting_problem(model.config):
        raise ModelError(
            f"{type(model).__name__} {problem}; take another model, or a server that runs it"
            " (`limbeck generate --server`)"
        )


class Reader:
    """A model with the keys and values of what it has read; some places may be empty.

    Args:
        model: A decoder with a vocabulary head.
        ids: Those that the tokenizer has, or how many from 0 on.

    Raises:
        ModelError: As `forgetting_problem` says.
    """

    def __init__(self, model: PreTrainedModel, ids: TokenIds | int) -> None:
        check_keeps_all(model)
        self.windows = Windows(model.config)
        self.model = model
        self.ids = TokenIds.given(ids)
        self.cache: Cache = DynamicCache()

    def read(
        self, ids: NewTokens, positions: NewTokens, mask: Places
    ) -> Float[Tensor, "rows new vocabulary"]:
        """Float32 log-probabilities of what follows each new token, a column for each id.

        Args:
            ids: New tokens, which follow all that was read before.
            positions: Of each new token in its text.
            mask: True where a place holds a token; of the places before and of the new ones.
        """
        logits = self._forward(self.model, ids, positions, mask).logits
        return torch.log_softmax(self.ids.only(logits), dim=-1)

    def remember(self, ids: NewTokens, positions: NewTokens, mask: Places) -> None:
        """Read without computing what follows."""
        self._forward(self.model.base_model, ids, positions, mask)

    def forget_after(self, places: int) -> None:
        """Keep the first places only."""
        for layer in self._layers():
            layer.keys = layer.keys[:, :, :places]
            layer.values = layer.values[:, :, :places]

    def keep_rows(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep some rows only."""
        for layer in self._layers():
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]

    def keep_places(self, places: Int[Tensor, "rows kept"]) -> None:
        """Keep some places of every row, in the order given."""
        index = places[:, None, :, None]
        for layer in self._layers():
            shape = (-1, layer.keys.shape[1], -1, layer.keys.shape[3])
            layer.keys = layer.keys.gather(2, index.expand(shape))
            layer.values = layer.values.gather(2, index.expand(shape))

    def end(self) -> None:
        """Let go of what only this batch needs; nothing here."""

    def _forward(self, model: Any, ids: NewTokens, positions: NewTokens, mask: Places) -> Any:
        return model(
            input_ids=ids,
            attention_mask=self._seen(mask, ids.shape[1]),
            position_ids=positions,
            cache=self.cache,
            use_cache=True,
        )

    def _seen(self, mask: Places, new: int) -> Any:
        """What the model takes as its mask, in which windows count tokens, not places."""
        if not self.windows.hide(mask.shape[1]):
            return mask
        config = self.model.config.get_text_config(decoder=True)
        like = torch.empty(len(mask), new, 0, dtype=self.model.dtype, device=mask.device)
        whole = create_causal_mask(config, like, mask, cache=self.cache, allow_is_causal_skip=False)
        positions = text_positions(mask)

        def make(window: int | None) -> Any:
            if window is None:
                return whole
            return narrowed(whole, near(positions[:, -new:], positions, window))

        return self.windows.given(make)

    def _layers(self) -> list[Any]:
        return list(self.cache.layers)
