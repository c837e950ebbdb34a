"""The ids that a tokenizer really has: an embedding table may have rows that belong to no token.

Such rows can also lie between others. Everything that is counted, compared, drawn or normalized
over a vocabulary uses these ids and never the number of tokens: where ids have holes, the largest
id exceeds that number.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Union

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from .errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LARGEST = 2**24  # no embedding table has so many rows
_NEVER = -1e9  # a logit that is never drawn: finite, so that 0 times it is 0


@dataclass(frozen=True)
class TokenIds:
    """The ids of a vocabulary.

    Attributes:
        end: One more than the largest id, so the number of table rows that are used.
        absent: Ids below ``end`` that belong to no token, in ascending order.

    >>> ids = TokenIds(6, absent=(1, 4))
    >>> len(ids), ids.present.tolist(), ids.columns_of(torch.tensor([0, 2, 5])).tolist()
    (4, [0, 2, 3, 5], [0, 1, 3])
    """

    end: int
    absent: tuple[int, ...] = ()

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "TokenIds":
        """The ids of a tokenizer, added tokens included.

        Raises:
            ModelError: The largest id is beyond the rows of any embedding table.
        """
        return _of(tokenizer, len(tokenizer))

    @classmethod
    def given(cls, ids: Union["TokenIds", int]) -> "TokenIds":
        """``ids`` unchanged; a number n becomes the ids 0 to n - 1."""
        return ids if isinstance(ids, TokenIds) else cls(ids)

    def __len__(self) -> int:
        """The number of tokens."""
        return self.end - len(self.absent)

    def __str__(self) -> str:
        """For tables: the number of tokens, and the end of the ids where some are absent."""
        return f"{len(self)} of {self.end} ids" if self.absent else f"{len(self)} ids"

    def below(self, end: int) -> "TokenIds":
        """The ids that are also below another end."""
        return TokenIds(min(end, self.end), tuple(n for n in self.absent if n < end))

    @cached_property
    def present(self) -> Int[ndarray, " tokens"]:
        """The ids that belong to a token, in ascending order."""
        ids = np.arange(self.end)
        return np.delete(ids, list(self.absent)) if self.absent else ids

    def columns(self, device: torch.device | str) -> Int[Tensor, " tokens"] | slice:
        """An index for the rows of these ids; a slice, which copies nothing, where none is absent.

        Args:
            device: The device of the table that is indexed.
        """
        if not self.absent:
            return slice(0, self.end)
        return torch.from_numpy(self.present).to(device)

    def columns_of(self, ids: Int[Tensor, "*ids"]) -> Int[Tensor, "*ids"]:
        """The rank of each id among the present ones; the id itself where none is absent."""
        if not self.absent:
            return ids
        absent = torch.tensor(self.absent, device=ids.device, dtype=ids.dtype)
        return ids - torch.searchsorted(absent, ids.contiguous())

    def at(self, shares: Float[ndarray, "*places"]) -> Int[ndarray, "*places"]:
        """The ids at relative positions in the vocabulary, each in [0, 1).

        >>> TokenIds(4, absent=(0,)).at(np.array([0.0, 0.5, 0.9])).tolist()
        [1, 2, 3]
        """
        places = (shares * len(self)).astype(np.int64)
        found: Int[ndarray, "*places"] = self.present[places] if self.absent else places
        return found

    def only(self, logits: Float[Tensor, "*rows vocabulary"]) -> Float[Tensor, "*rows end"]:
        """Float32 logits of the ids below ``end``, in which absent ids are never drawn.

        Each column is an id, and a softmax over the columns is a softmax over the tokens.
        """
        found = logits[..., : self.end].float()
        if not self.absent:
            return found
        return found.index_fill(-1, _on_device(self.absent, found.device), _NEVER)


# The number of tokens is part of the key, because tokens may be added to a tokenizer later.
@lru_cache(maxsize=8)
def _of(tokenizer: "PreTrainedTokenizerBase", count: int) -> TokenIds:
    ids = np.unique(np.fromiter(tokenizer.get_vocab().values(), dtype=np.int64))
    end = int(ids.max(initial=-1)) + 1
    if end > _LARGEST:
        raise ModelError(
            f"the tokenizer's largest id is {end - 1}, of {count} tokens; no embedding table has so"
            " many rows. Give its tokens ids that the model's table has"
        )
    if end == len(ids):
        return TokenIds(end)
    return TokenIds(end, tuple(np.setdiff1d(np.arange(end), ids).tolist()))


# Cached, because nothing may be copied to a GPU while a CUDA graph is being recorded.
@lru_cache(maxsize=8)
def _on_device(ids: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(ids, device=device)
