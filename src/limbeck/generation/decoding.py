"""Text that student and teacher generate together, a whole batch at once, each with its cache.

The student drafts a few tokens and the teacher reads them in one forward. Each row accepts its
draft up to the first place where the rule lets the teacher generate and the teacher draws another
token; that token is the teacher's. What a rule sees at a place depends only on the text before it,
and each place is drawn with noise of its own, so the text is exactly the one that generation token
by token gives. Where a rule looks only at the text before, both models draw with the same noise, so
that a teacher that agrees keeps the draft; where it looks at the drafted token, the teacher draws
with noise that is independent of the student's.

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

from ..errors import GenerationError
from ..token_ids import TokenIds
from .drafting import ModelPair
from .given import check_given, ends_given
from .noise import TokenDraws
from .options import temperature_problem
from .readers import Readers
from .rules import Rule, Seen

# A draft longer than this share of the mean run of accepted tokens costs more than it saves.
_OF_A_RUN = 0.5
_MEMORY = 0.8  # weight of the drafts before, with each draft


@dataclass(frozen=True)
class DecodingOptions:
    """How text is generated.

    Attributes:
        max_new_tokens: Tokens of a response at most, its end included.
        temperature: Log-probabilities are divided by it; 0 takes the most likely token.
        draft_length: Tokens that are drafted at most before the teacher reads them. Changes
            nothing but the time it takes.
        seed: Decides the noise, with the number of each row.
        first_row: Number of the first row, where a batch is generated in parts.

    Raises:
        GenerationError: A number is out of its range.
    """

    max_new_tokens: int
    temperature: float = 1.0
    draft_length: int = 16
    seed: int = 0
    first_row: int = 0

    def __post_init__(self) -> None:
        """See that all numbers are in their ranges."""
        if problem := temperature_problem(self.temperature):
            raise GenerationError(f"the temperature {problem}")
        for name in ("max_new_tokens", "draft_length"):
            if getattr(self, name) < 1:
                raise GenerationError(f"{name} is {getattr(self, name)}; give 1 or more")


@dataclass(frozen=True)
class Generated:
    """Responses, in the order of their prompts.

    Attributes:
        tokens: Ids of the generated tokens; 0 after the end.
        lengths: Tokens of each response, its end included.
        by_teacher: True where the teacher generated the token.
        ended: Whether the response has an end, and was not stopped at `max_new_tokens`.
    """

    tokens: Int[Tensor, "rows max_new_tokens"]
    lengths: Int[Tensor, " rows"]
    by_teacher: Bool[Tensor, "rows max_new_tokens"]
    ended: Bool[Tensor, " rows"]


@torch.no_grad()
def generate(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    prompts: Sequence[Sequence[int]],
    rule: Rule,
    *,
    options: DecodingOptions,
    vocabulary: TokenIds | int,
    eos_token_id: int | Collection[int],
    progress: float = 0.0,
    readers: Readers | None = None,
) -> Generated:
    """Responses that student and teacher generate together, one to each prompt.

    Args:
        student: A decoder in evaluation mode.
        teacher: A decoder in evaluation mode with the same vocabulary, on the same device; None
            where the rule does not need one.
        prompts: Token ids, at least one each.
        rule: Decides who generates each token.
        options: Length, temperature and seed.
        vocabulary: The ids that the tokenizer has (`TokenIds.of`), or how many from 0 on; no
            other id is generated.
        eos_token_id: Each token that ends a response; with an empty list none does.
        progress: Fraction of the training that is done, 0 to 1, for rules that change with it.
        readers: Keeps caches and CUDA graphs for the next calls; by default nothing is kept, and
            both models are read by transformers' forward.

    Raises:
        GenerationError: A model cannot read the prompts and what is generated, or the rule lacks
            a teacher, or has options out of range.
        ModelError: A model does not keep the keys and values of all tokens.
    """
    ids = TokenIds.given(vocabulary)
    ends = ends_given(eos_token_id)
    check_given(
        *(student, teacher, prompts, rule),
        max_new_tokens=options.max_new_tokens,
        ids=ids,
        ends=ends,
    )
    pair = ModelPair(
        student,
        teacher if rule.needs_teacher else None,
        prompts,
        max_new_tokens=options.max_new_tokens,
        draft_length=options.draft_length,
        vocabulary=ids,
        readers=readers or Readers(cuda_graphs=False, direct=False),
    )
    batch = _Batch(len(prompts), ends, options, ids, rule, student.device)
    batch.generate(pair, rule, progress)
    pair.end()
    return Generated(batch.tokens, batch.lengths, batch.by_teacher, batch.ended)


class _Batch:
    """What has been generated of each row, and which rows are open."""

    def __init__(
        self,
        count: int,
        ends: Sequence[int],
        options: DecodingOptions,
        ids: TokenIds,
        rule: Rule,
        device: torch.device,
    ) -> None:
        size = count, options.max_new_tokens
        self.tokens = torch.zeros(size, dtype=torch.long, device=device)
        self.by_teacher = torch.zeros(size, dtype=torch.bool, device=device)
        self.ended = torch.zeros(count, dtype=torch.bool, device=device)
        self.lengths = torch.zeros(count, dtype=torch.long, device=device)
        self._rows = torch.arange(count, device=device)  # those that are open
        self._state = rule.begin(count).to(device)
        self._ends = torch.tensor(ends, dtype=torch.long, device=device)
        self._options = options
        self._draws = TokenDraws(
            self._rows + options.first_row,
            seed=options.seed,
            temperature=options.temperature,
            vocabulary=ids,
            independent=rule.judges_draft,
        )

    def generate(self, pair: ModelPair, rule: Rule, progress: float) -> None:
        """Draft, check and accept until every row is finished."""
        draft_length = _DraftLength(self._options.draft_length)
        while len(self._rows):
            done = self.lengths[self._rows]
            length = draft_length.next(self._options.max_new_tokens - int(done.min()))
            places = done[:, None] + torch.arange(length, device=done.device)
            noise = self._draws.student_noise(self._rows, places)
            drafted, of_student = pair.draft(length, noise, self._draws)
            of_teacher = pair.check(drafted)
            seen = Seen(
                drafted, of_student, of_teacher, places, self._options.max_new_tokens, progress
            )
            fires, states = rule.teacher_generates(seen, self._state)
            theirs = drafted
            if fires.any():
                if rule.judges_draft:
                    noise = self._draws.teacher_noise(self._rows, places)
                theirs = self._draws.draw(of_teacher, noise)
            new = torch.where(fires, theirs, drafted)
            end = self._last_accepted(new, drafted, places)
            accepted = torch.arange(length, device=end.device) <= end[:, None]
            last = self._accept(new, fires, places, accepted, end)
            self._state = states[torch.arange(len(end), device=end.device), end]
            pair.accept(last, accepted)
            rejected = last != drafted.gather(1, end[:, None]).squeeze(1)
            draft_length.count(accepted=int(accepted.sum()), rejected=int(rejected.sum()))
            self._close_finished(pair)

    def _last_accepted(self, new: Tensor, drafted: Tensor, places: Tensor) -> Tensor:
        """The place of each draft after which nothing is accepted.

        What follows was drafted after another token, after an end, or beyond the longest response.
        """
        longest = self._options.max_new_tokens
        stops = (new != drafted) | torch.isin(new, self._ends) | (places == longest - 1)
        stops[:, -1] = True
        return stops.int().argmax(-1)

    def _accept(
        self, new: Tensor, fires: Tensor, places: Tensor, accepted: Tensor, end: Tensor
    ) -> Tensor:
        """The accepted tokens become part of the text; returns the last one of each row."""
        owner, place = self._rows[:, None].expand_as(new)[accepted], places[accepted]
        self.tokens[owner, place], self.by_teacher[owner, place] = new[accepted], fires[accepted]
        self.lengths[self._rows] = places[:, 0] + end + 1
        last = new.gather(1, end[:, None]).squeeze(1)
        self.ended[self._rows] = torch.isin(last, self._ends)
        return last

    def _close_finished(self, pair: ModelPair) -> None:
        lengths = self.lengths[self._rows]
        unfinished = ~self.ended[self._rows] & (lengths < self._options.max_new_tokens)
        if not unfinished.all():
            kept = unfinished.nonzero()[:, 0]
            self._rows, self._state = self._rows[kept], self._state[kept]
            pair.keep_rows(kept)


class _DraftLength:
    """How many tokens to draft next, by how many of late were accepted between rejections."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._accepted, self._rejected = float(most), 1.0

    def next(self, left: int) -> int:
        """A power of two, or the most: each length of a draft is recorded as a CUDA graph.

        Args:
            left: Tokens that the shortest response may still take.
        """
        wanted = _OF_A_RUN * self._accepted / max(self._rejected, 1e-3)
        return _power_of_two(float(left), _power_of_two(wanted, self._most))

    def count(self, *, accepted: int, rejected: int) -> None:
        """Tokens that were accepted of all rows, and rows whose draft was rejected."""
        self._rejected = _MEMORY * self._rejected + rejected
        self._accepted = _MEMORY * self._accepted + accepted


def _power_of_two(wanted: float, most: int) -> int:
    return min(most, 1 << int(math.log2(max(1.0, wanted))))
