"""A decoder that remembers what it has read, row by row, and can forget some of it."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ..errors import ModelError
from ..token_ids import TokenIds


class Reader:
    """A model with its keys and values, of which some places may be empty.

    Args:
        model: A decoder with a vocabulary head.
        ids: Those that the tokenizer has, or how many from 0 on.

    Raises:
        ModelError: Some layer sees only the last tokens, or keeps something else than
            keys and values, so that places cannot be left empty.
    """

    def __init__(self, model: PreTrainedModel, ids: TokenIds | int) -> None:
        kinds = DynamicCache(config=model.config).layers
        if any(type(layer) is not DynamicLayer for layer in kinds):
            names = ", ".join(sorted({type(layer).__name__ for layer in kinds}))
            raise ModelError(
                f"{type(model).__name__} keeps {names}; text can be written by two models only"
                " where every layer keeps all keys and values (full attention)"
            )
        self.model = model
        self.ids = TokenIds.given(ids)
        self.cache: Cache = DynamicCache()

    def read(
        self,
        ids: Int[Tensor, "rows new"],
        positions: Int[Tensor, "rows new"],
        mask: Bool[Tensor, "rows places"],
    ) -> Float[Tensor, "rows new vocabulary"]:
        """Log-probabilities of what follows each new token, float32; a column an id.

        Args:
            ids: Read after all that was read before.
            positions: Of each new token in its text.
            mask: True where a place holds a token, of those before and of the new ones.
        """
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            cache=self.cache,
            use_cache=True,
        )
        return torch.log_softmax(self.ids.only(output.logits), dim=-1)

    def remember(
        self,
        ids: Int[Tensor, "rows new"],
        positions: Int[Tensor, "rows new"],
        mask: Bool[Tensor, "rows places"],
    ) -> None:
        """Read without asking what follows."""
        self.model.base_model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            cache=self.cache,
            use_cache=True,
        )

    def forget_after(self, places: int) -> None:
        """Only the first places stay."""
        for layer in self._layers():
            layer.keys = layer.keys[:, :, :places]
            layer.values = layer.values[:, :, :places]

    def keep_rows(self, rows: Int[Tensor, " kept"]) -> None:
        """Only some rows stay."""
        for layer in self._layers():
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]

    def keep_places(self, places: Int[Tensor, "rows kept"]) -> None:
        """Of every row only some places stay, in the order given."""
        index = places[:, None, :, None]
        for layer in self._layers():
            shape = (-1, layer.keys.shape[1], -1, layer.keys.shape[3])
            layer.keys = layer.keys.gather(2, index.expand(shape))
            layer.values = layer.values.gather(2, index.expand(shape))

    def _layers(self) -> list[Any]:
        return list(self.cache.layers)
