"""Both models of a generation step: the student drafts tokens, the teacher reads the whole draft.

Source: one forward over a draft, Leviathan et al. 2023, arXiv:2211.17192.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..token_ids import TokenIds
from .noise import TokenDraws
from .reader import Reader
from .readers import Readers

_EMPTY_AT_MOST = 0.25  # of the cache places; with more, the filled places are moved together


def most_places(tokens: int, draft_length: int) -> int:
    """Cache places that a text of so many tokens takes at most, empty places included."""
    return math.ceil(tokens / (1 - _EMPTY_AT_MOST)) + draft_length


class ModelPair:
    """Student and teacher with their caches, which always hold the same text.

    The last token of each row is in neither cache: it is read with the next draft.

    Args:
        student: A decoder in evaluation mode.
        teacher: A decoder with the same vocabulary; None where the rule does not need one.
        prompts: Token ids of each row, at least one each.
        max_new_tokens: Tokens of a response at most.
        draft_length: Tokens of a draft at most.
        vocabulary: The ids that the tokenizer has.
        readers: Gives both models their caches.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        draft_length: int,
        vocabulary: TokenIds,
        readers: Readers,
    ) -> None:
        width = max(len(prompt) for prompt in prompts)
        size = {
            "rows": len(prompts),
            "places": most_places(width + max_new_tokens, draft_length),
        }
        self.student = readers.of("student", student, vocabulary, **size)
        self.teacher = (
            readers.of("teacher", teacher, vocabulary, **size) if teacher is not None else None
        )
        device = student.device
        ids = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        table = torch.tensor(ids, device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        positions = torch.arange(width, device=device) - (width - lengths[:, None])
        self.last = table[:, -1]
        self.next = lengths - 1  # the position of that token
        self.mask = (positions >= 0)[:, :-1]
        # A draft may reach beyond the longest response, where the model may have no position.
        self.most = lengths + max_new_tokens - 1
        if width > 1:
            for reader in self._readers():
                reader.remember(table[:, :-1], positions[:, :-1].clamp_min(0), self.mask)

    def draft(self, length: int, noise: Tensor | None, draws: TokenDraws) -> tuple[Tensor, Tensor]:
        """Tokens that the student draws one after another, and its log-probabilities."""
        drafted, logs = [], []
        token, positions, mask = self.last, self._positions(length), self._mask(length)
        for place in range(length):
            read = self.student.read(
                token[:, None],
                positions[:, place : place + 1],
                mask[:, : place + 1 - length or None],
            )
            logs.append(read[:, 0])
            token = draws.draw(logs[-1], noise[:, place] if noise is not None else None)
            drafted.append(token)
        return torch.stack(drafted, 1), torch.stack(logs, 1)

    def check(self, drafted: Tensor) -> Tensor:
        """The teacher's log-probabilities at the places of a draft; empty without a teacher."""
        length = drafted.shape[1]
        if self.teacher is None:
            return drafted.new_zeros((*drafted.shape, 0), dtype=torch.float32)
        read = torch.cat([self.last[:, None], drafted[:, :-1]], 1)
        return self.teacher.read(read, self._positions(length), self._mask(length))

    def accept(self, last: Tensor, accepted: Tensor) -> None:
        """Keep in both caches what was accepted of the draft that was just read.

        Args:
            last: The last accepted token of each row, which is still to be read.
            accepted: True at the places of the draft that stay.
        """
        self.mask = torch.cat([self.mask, accepted], 1)
        self.next = self.next + accepted.sum(-1)
        self.last = last
        longest = self.mask.shape[1] - accepted.shape[1] + int(accepted.sum(-1).max())
        self.mask = self.mask[:, :longest]
        for reader in self._readers():
            reader.forget_after(longest)
        full = self.mask.sum(-1)
        if int((~self.mask).sum()) > _EMPTY_AT_MOST * self.mask.numel():
            most = int(full.max())
            order = self.mask.int().argsort(dim=-1, stable=True)[:, -most:]
            self.mask = self.mask.gather(1, order)
            for reader in self._readers():
                reader.keep_places(order)

    def keep_rows(self, rows: Tensor) -> None:
        """Keep some rows; the others are finished."""
        self.mask, self.most = self.mask[rows], self.most[rows]
        self.next, self.last = self.next[rows], self.last[rows]
        for reader in self._readers():
            reader.keep_rows(rows)

    def end(self) -> None:
        """Let both readers go of what only this batch needs."""
        for reader in self._readers():
            reader.end()

    def _positions(self, new: int) -> Tensor:
        places = self.next[:, None] + torch.arange(new, device=self.next.device)
        return torch.minimum(places, self.most[:, None])

    def _mask(self, new: int) -> Tensor:
        return torch.cat([self.mask, self.mask.new_ones(len(self.mask), new)], 1)

    def _readers(self) -> list[Reader]:
        return [self.student] + ([self.teacher] if self.teacher is not None else [])
