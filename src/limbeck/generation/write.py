"""Text that student and teacher write together, a whole batch at once, both caches kept.

The student drafts a block, the teacher reads it in one forward, and each row is cut where the
text that the rule gives leaves the draft: where the teacher writes, and writes another token.
What a rule sees at a place hangs only on the text before it, and what is drawn there is drawn
with noise of its own, so this is exactly the text that token-by-token writing gives. Where the rule
looks at the text before alone, both models draw with the same noise, so that a teacher that agrees
does not cut; where it looks at the drafted token, the teacher draws with noise that is independent
of the student's.

Source: the rules are those of `rules`; reading drafts in one forward is the idea of
speculative decoding, Leviathan et al. 2023, arXiv:2211.17192.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel

from ..token_ids import TokenIds
from .noise import gumbel_noise, row_keys
from .reader import Reader
from .rules import Rule, Seen
from .tables import Readers

# A draft longer than this share of the mean run of tokens that stay costs more than it saves.
_OF_A_RUN = 0.5
_MEMORY = 0.8  # what counts of the blocks before, with each block
_EMPTY_AT_MOST = 0.25  # of the places in the caches, before they are moved together


@dataclass(frozen=True)
class Writing:
    """How text is written.

    Attributes:
        longest: Tokens of a response at most, its end included.
        temperature: Log-probabilities are divided by it; 0 takes the likeliest token.
        block: Tokens that are drafted at most before the teacher reads them. Changes
            nothing but the time it takes.
        seed: Decides the noise, with the number of each row.
        first_row: Number of the first row, where a batch is written in parts.
    """

    longest: int
    temperature: float = 1.0
    block: int = 16
    seed: int = 0
    first_row: int = 0


@dataclass(frozen=True)
class Written:
    """Responses, in the order of their prompts.

    Attributes:
        tokens: Those that were written; 0 after the end.
        lengths: Tokens of each, its end included.
        by_teacher: True where the teacher wrote.
        ended: Whether the row came to its end, and was not cut at the longest length.
    """

    tokens: Int[Tensor, "rows longest"]
    lengths: Int[Tensor, " rows"]
    by_teacher: Bool[Tensor, "rows longest"]
    ended: Bool[Tensor, " rows"]


@torch.no_grad()
def write(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    prompts: Sequence[Sequence[int]],
    rule: Rule,
    *,
    writing: Writing,
    tokens: TokenIds | int,
    ends: Collection[int],
    progress: float = 0.0,
    readers: Readers | None = None,
) -> Written:
    """What the two write after each prompt.

    Args:
        student: A decoder in evaluation mode.
        teacher: Likewise, with the same tokens; None where the rule never asks it.
        prompts: Token ids, at least one each.
        rule: Says who writes.
        writing: How.
        tokens: The ids that the tokenizer has, or how many from 0 on; no other is generated.
        ends: Tokens that end a response, each of them.
        progress: Share of the stage that is done.
        readers: Kept by the caller for the batches after this one.
    """
    ids = TokenIds.given(tokens)
    reads = teacher if rule.asks_teacher else None
    both = _Both(student, reads, prompts, writing, ids, readers or Readers(graphs=False))
    device = both.last.device
    count = len(prompts)
    text = torch.zeros(count, writing.longest, dtype=torch.long, device=device)
    by_teacher = torch.zeros(count, writing.longest, dtype=torch.bool, device=device)
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    lengths = torch.zeros(count, dtype=torch.long, device=device)
    stop = torch.tensor(sorted(ends), dtype=torch.long, device=device)
    rows = torch.arange(count, device=device)
    numbers, state = rows + writing.first_row, rule.begin(count).to(device)
    keys = row_keys(writing.seed, numbers)
    teacher_keys = row_keys(writing.seed, numbers, second=rule.judges_draft)
    written, left = float(writing.block), 1.0  # tokens, and drafts that were left, of late
    while len(rows):
        done = lengths[rows]
        block = _some_block(_OF_A_RUN * written / max(left, 1e-3), writing.block)
        block = _some_block(float(writing.longest - int(done.min())), block)
        places = done[:, None] + torch.arange(block, device=device)
        noise = _noise(keys[rows], places, ids.end, writing.temperature)
        drafted, of_student = both.draft(block, noise, writing)
        of_teacher = both.check(drafted)
        seen = Seen(drafted, of_student, of_teacher, places, writing.longest, progress)
        fires, states = rule.teacher_writes(seen, state)
        theirs = drafted
        if fires.any():
            if rule.judges_draft:
                noise = _noise(teacher_keys[rows], places, ids.end, writing.temperature)
            theirs = _drawn(of_teacher, noise, writing.temperature, both.absent)
        new = torch.where(fires, theirs, drafted)
        # What stands after the first of these was drafted after another text, or is too much.
        stops = (new != drafted) | torch.isin(new, stop) | (places == writing.longest - 1)
        stops[:, -1] = True
        cut = stops.int().argmax(-1)
        taken = torch.arange(block, device=device) <= cut[:, None]
        owner, place = rows[:, None].expand_as(new)[taken], places[taken]
        text[owner, place], by_teacher[owner, place] = new[taken], fires[taken]
        lengths[rows] = done + cut + 1
        last = new.gather(1, cut[:, None]).squeeze(1)
        ended[rows] = torch.isin(last, stop)
        state = states[torch.arange(len(rows), device=device), cut]
        goes_on = ~ended[rows] & (lengths[rows] < writing.longest)
        both.take(last, taken)
        if not goes_on.all():
            kept = goes_on.nonzero()[:, 0]
            rows, state = rows[kept], state[kept]
            both.keep_rows(kept)
        left = _MEMORY * left + int((last != drafted.gather(1, cut[:, None]).squeeze(1)).sum())
        written = _MEMORY * written + int(taken.sum())
    return Written(text, lengths, by_teacher, ended)


class _Both:
    """Both readers, who have always read the same text, and its last token that neither has."""

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        prompts: Sequence[Sequence[int]],
        writing: Writing,
        tokens: TokenIds,
        readers: Readers,
    ) -> None:
        width = max(len(prompt) for prompt in prompts)
        places = most_places(width + writing.longest, writing.block)
        size = {"rows": len(prompts), "places": places}
        self.student = readers.of("student", student, tokens, **size)
        self.teacher = (
            readers.of("teacher", teacher, tokens, **size) if teacher is not None else None
        )
        device = student.device
        self.absent = torch.tensor(tokens.absent, dtype=torch.long, device=device)
        ids = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        table = torch.tensor(ids, device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        positions = torch.arange(width, device=device) - (width - lengths[:, None])
        self.last = table[:, -1]
        self.next = lengths - 1  # the position of that token
        self.mask = (positions >= 0)[:, :-1]
        # A draft may reach beyond the longest response, where there may be no position.
        self.most = lengths + writing.longest - 1
        if width > 1:
            for reader in self._readers():
                reader.remember(table[:, :-1], positions[:, :-1].clamp_min(0), self.mask)

    def draft(self, block: int, noise: Tensor | None, writing: Writing) -> tuple[Tensor, Tensor]:
        """Tokens that the student draws one after another, and its log-probabilities."""
        drafted, logs = [], []
        token = self.last
        for place in range(block):
            read = self.student.read(
                token[:, None], self._positions(1, place), self._mask(place + 1)
            )
            logs.append(read[:, 0])
            here = noise[:, place] if noise is not None else None
            token = _drawn(logs[-1], here, writing.temperature, self.absent)
            drafted.append(token)
        return torch.stack(drafted, 1), torch.stack(logs, 1)

    def check(self, drafted: Tensor) -> Tensor:
        """The teacher's log-probabilities at the same places; empty without one."""
        block = drafted.shape[1]
        if self.teacher is None:
            return drafted.new_zeros((*drafted.shape, 0), dtype=torch.float32)
        read = torch.cat([self.last[:, None], drafted[:, :-1]], 1)
        return self.teacher.read(read, self._positions(block, 0), self._mask(block))

    def take(self, last: Tensor, taken: Tensor) -> None:
        """Of the block that was read, what was taken stays; its last token is still to be read."""
        self.mask = torch.cat([self.mask, taken], 1)
        self.next = self.next + taken.sum(-1)
        self.last = last
        longest = self.mask.shape[1] - taken.shape[1] + int(taken.sum(-1).max())
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
        """The others are finished."""
        self.mask, self.most = self.mask[rows], self.most[rows]
        self.next, self.last = self.next[rows], self.last[rows]
        for reader in self._readers():
            reader.keep_rows(rows)

    def _positions(self, new: int, after: int) -> Tensor:
        places = self.next[:, None] + after + torch.arange(new, device=self.next.device)
        return torch.minimum(places, self.most[:, None])

    def _mask(self, new: int) -> Tensor:
        return torch.cat([self.mask, self.mask.new_ones(len(self.mask), new)], 1)

    def _readers(self) -> list[Reader]:
        return [self.student] + ([self.teacher] if self.teacher is not None else [])


def _some_block(wanted: float, most: int) -> int:
    """A power of two, or the most: each length of a draft is recorded and kept by itself."""
    return min(most, 1 << int(math.log2(max(1.0, wanted))))


def most_places(tokens: int, block: int) -> int:
    """What a text of so many tokens takes in the caches at most, empty places included."""
    return math.ceil(tokens / (1 - _EMPTY_AT_MOST)) + block


def _noise(keys: Tensor, places: Tensor, tokens: int, temperature: float) -> Tensor | None:
    if temperature == 0:
        return None
    rows, block = places.shape
    noise = gumbel_noise(keys.repeat_interleave(block), places.reshape(-1), tokens)
    return noise.view(rows, block, tokens)


def _drawn(logs: Tensor, noise: Tensor | None, temperature: float, absent: Tensor) -> Tensor:
    if noise is None:
        return logs.argmax(-1)
    # Behind the division: a high temperature brings what no token has near to the others.
    return (logs / temperature + noise).index_fill(-1, absent, -math.inf).argmax(-1)
