"""Which ids a tokenizer really gives: a table may have rows that no token has, also in between.

Everything that is counted, compared, drawn or normalised over a vocabulary goes by these ids,
never by how many tokens there are: where ids have holes, the largest is beyond that number.
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
    """The ids below an end, without those that no token has.

    Attributes:
        end: One more than the largest id: so many rows of a table are looked at.
        absent: Ids below it that no token has, in order.

    >>> ids = TokenIds(6, absent=(1, 4))
    >>> len(ids), ids.present.tolist(), ids.columns_of(torch.tensor([0, 2, 5])).tolist()
    (4, [0, 2, 3, 5], [0, 1, 3])
    """

    end: int
    absent: tuple[int, ...] = ()

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "TokenIds":
        """Those of a tokenizer, added tokens included.

        Raises:
            ModelError: Its largest id is beyond any table.
        """
        return _of(tokenizer, len(tokenizer))

    @classmethod
    def given(cls, ids: Union["TokenIds", int]) -> "TokenIds":
        """Themselves, or so many from 0 on."""
        return ids if isinstance(ids, TokenIds) else cls(ids)

    def __len__(self) -> int:
        """How many tokens there are."""
        return self.end - len(self.absent)

    def __str__(self) -> str:
        """As a table shows them: how many, and below which id where some are absent."""
        return f"{len(self)} of {self.end} ids" if self.absent else f"{len(self)} ids"

    def below(self, end: int) -> "TokenIds":
        """Those below another end."""
        return TokenIds(min(end, self.end), tuple(n for n in self.absent if n < end))

    @cached_property
    def present(self) -> Int[ndarray, " tokens"]:
        """All of them, in order."""
        ids = np.arange(self.end)
        return np.delete(ids, list(self.absent)) if self.absent else ids

    def columns(self, device: torch.device | str) -> Int[Tensor, " tokens"] | slice:
        """What picks their rows out of a table; a slice where none is absent, which copies nothing.

        Args:
            device: Of the table.
        """
        if not self.absent:
            return slice(0, self.end)
        return torch.from_numpy(self.present).to(device)

    def columns_of(self, ids: Int[Tensor, "*ids"]) -> Int[Tensor, "*ids"]:
        """Where each id stands among them; itself where none is absent."""
        if not self.absent:
            return ids
        absent = torch.tensor(self.absent, device=ids.device, dtype=ids.dtype)
        return ids - torch.searchsorted(absent, ids.contiguous())

    def at(self, shares: Float[ndarray, "*places"]) -> Int[ndarray, "*places"]:
        """The id that stands so far into them, from 0 up to but not 1.

        >>> TokenIds(4, absent=(0,)).at(np.array([0.0, 0.5, 0.9])).tolist()
        [1, 2, 3]
        """
        places = (shares * len(self)).astype(np.int64)
        found: Int[ndarray, "*places"] = self.present[places] if self.absent else places
        return found

    def only(self, logits: Float[Tensor, "*rows vocabulary"]) -> Float[Tensor, "*rows end"]:
        """Float32 logits of the ids below the end; what no token has is never drawn.

        Columns are ids, and a softmax over them is one over the tokens.
        """
        found = logits[..., : self.end].float()
        if not self.absent:
            return found
        return found.index_fill(-1, _on_device(self.absent, found.device), _NEVER)


# By the number too: a tokenizer may be given more tokens later.
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


# Kept, for what is recorded on a GPU may bring nothing onto it.
@lru_cache(maxsize=8)
def _on_device(ids: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(ids, device=device)
