"""Who generates the next token of a text, student or teacher: one rule a policy.

A rule sees what both models expect next and nothing of what comes after, so that a block of
drafted tokens can be judged at once. It sees both distributions at temperature 1, whatever the
temperature at which text is generated.

Source: the switch, Koo et al. 2025, SWITCH, arXiv:2410.19503, and Mokretsov, Tatarnikova 2025,
doi:10.17586/2226-1494-2025-25-4-737-743; top tokens, Xu et al. 2024, Speculative Knowledge
Distillation, arXiv:2410.11325; the running mean, arXiv:2510.07842.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .options import (
    MOST_DIVERGENCE,
    RULE_OPTIONS,
    AdaptiveOptions,
    SpeculativeOptions,
    StudentOptions,
    SwitchOptions,
    TeacherOptions,
)

_FALLS_TO = 0.1  # of the threshold at the beginning, over the longest response, by default


@dataclass(frozen=True)
class Seen:
    """What a rule may look at: a block of places in some rows, where a token was drafted.

    Attributes:
        drafted: The student's token.
        student: Log-probabilities; each place given what was drafted before it.
        teacher: Log-probabilities at the same places; of no tokens where the rule does not need
            the teacher.
        position: Of the place in its response, counted from 0.
        max_new_tokens: Tokens of a response at most.
        progress: Fraction of the stage that is done, 0 to 1.
    """

    drafted: Int[Tensor, "rows block"]
    student: Float[Tensor, "rows block vocabulary"]
    teacher: Float[Tensor, "rows block _"]
    position: Int[Tensor, "rows block"]
    max_new_tokens: int
    progress: float


State = Float[Tensor, "rows _"]
States = Float[Tensor, "rows block _"]


@runtime_checkable
class Rule(Protocol):
    """A frozen dataclass whose fields are the options that a recipe may set.

    Attributes:
        needs_teacher: Whether the teacher has to read the text at all.
        judges_draft: Whether the decision depends on the drafted token too, and not only on the
            text before it. The teacher's token is then drawn with noise of its own: the noise of
            the draft is no longer random once the draft has been looked at.
    """

    needs_teacher: ClassVar[bool]
    judges_draft: ClassVar[bool] = False

    def problems(self) -> list[tuple[str, str]]:
        """Options out of range, each with its field."""
        return []

    def begin(self, rows: int) -> State:
        """What the rule remembers of each row before the first token; nothing by default."""
        return torch.zeros(rows, 0)

    def teacher_generates(
        self, seen: Seen, state: State
    ) -> tuple[Bool[Tensor, "rows block"], States]:
        """True where the teacher generates, and what is remembered after each place.

        Args:
            seen: The block.
            state: What is remembered of each row before the block.
        """
        ...


@dataclass(frozen=True)
class Student(StudentOptions, Rule):
    """The student generates everything (on-policy)."""

    needs_teacher: ClassVar[bool] = False

    def teacher_generates(
        self, seen: Seen, state: State
    ) -> tuple[Bool[Tensor, "rows block"], States]:
        """Nowhere."""
        return torch.zeros_like(seen.drafted, dtype=torch.bool), _unchanged(seen, state)


@dataclass(frozen=True)
class Teacher(TeacherOptions, Rule):
    """The teacher generates everything (sequence-level distillation)."""

    needs_teacher: ClassVar[bool] = True

    def teacher_generates(
        self, seen: Seen, state: State
    ) -> tuple[Bool[Tensor, "rows block"], States]:
        """Everywhere."""
        return torch.ones_like(seen.drafted, dtype=torch.bool), _unchanged(seen, state)


@dataclass(frozen=True)
class Switch(SwitchOptions, Rule):
    """The teacher generates where the two disagree by more than a threshold, which falls."""

    needs_teacher: ClassVar[bool] = True

    def teacher_generates(
        self, seen: Seen, state: State
    ) -> tuple[Bool[Tensor, "rows block"], States]:
        """Where the divergence is above the threshold, or the threshold is 0."""
        threshold = self.threshold(seen)
        # Divergences of nearly equal distributions are rounded to 0.
        fires = (jensen_shannon(seen.student, seen.teacher) > threshold) | (threshold <= 0)
        return fires, _unchanged(seen, state)

    def threshold(self, seen: Seen) -> Float[Tensor, "rows block"]:
        """In nats, at each place."""
        place = seen.position.float()
        if self.by == "step":
            place = torch.full_like(place, seen.progress * seen.max_new_tokens)
        if self.decay == "exponential":
            rate = -math.log(_FALLS_TO) / seen.max_new_tokens if self.rate is None else self.rate
            return self.tau * torch.exp(-rate * place)
        if self.decay == "linear":
            rate = (1 - _FALLS_TO) / seen.max_new_tokens if self.rate is None else self.rate
            return self.tau * (1 - rate * place).clamp_min(0)
        return torch.full_like(place, self.tau)


@dataclass(frozen=True)
class Speculative(SpeculativeOptions, Rule):
    """The student's token stays if it is among the teacher's top ones, else it is the teacher's."""

    needs_teacher: ClassVar[bool] = True
    judges_draft: ClassVar[bool] = True

    def teacher_generates(
        self, seen: Seen, state: State
    ) -> tuple[Bool[Tensor, "rows block"], States]:
        """Where the drafted token is not among the teacher's top tokens."""
        mine = seen.teacher.gather(-1, seen.drafted[..., None])
        better = (seen.teacher > mine).sum(-1)
        return better >= self.top_k, _unchanged(seen, state)


@dataclass(frozen=True)
class Adaptive(AdaptiveOptions, Rule):
    """The teacher takes over for good once the divergence is far above its running mean."""

    needs_teacher: ClassVar[bool] = True

    def begin(self, rows: int) -> State:
        """Sum of divergences, number of places, and whether the teacher has taken over."""
        return torch.zeros(rows, 3)

    def teacher_generates(
        self, seen: Seen, state: State
    ) -> tuple[Bool[Tensor, "rows block"], States]:
        """From the first place on where the divergence is `times` the mean of the places before."""
        divergence = jensen_shannon(seen.student, seen.teacher)
        sums = state[:, :1] + divergence.cumsum(-1)
        numbers = state[:, 1:2] + torch.ones_like(divergence).cumsum(-1)
        before = numbers - 1
        mean = (sums - divergence) / before.clamp_min(1)
        far = (divergence > self.times * mean) & (before >= self.first)
        fires = (far.int().cummax(-1).values > 0) | (state[:, 2:] > 0)
        return fires, torch.stack([sums, numbers, fires.float()], dim=-1)


RULES: dict[str, type[Rule]] = {
    "student": Student,
    "teacher": Teacher,
    "switch": Switch,
    "speculative": Speculative,
    "adaptive": Adaptive,
}


def rule_of(options: Any) -> Rule | None:
    """The rule that has these options, an object of `options.RULE_OPTIONS`; None of None."""
    if options is None:
        return None
    name = next(name for name, kind in RULE_OPTIONS.items() if type(options) is kind)
    return RULES[name](**vars(options))


def jensen_shannon(
    student: Float[Tensor, "*places vocabulary"], teacher: Float[Tensor, "*places vocabulary"]
) -> Float[Tensor, "*places"]:
    """Jensen-Shannon divergence of log-probabilities, in nats: 0 to ln 2."""
    middle = torch.logaddexp(student, teacher) - math.log(2)
    halves = [
        torch.where(some.isneginf(), 0, some.exp() * (some - middle)).sum(-1)
        for some in (student, teacher)
    ]
    return (halves[0] + halves[1]).div_(2).clamp_(0, MOST_DIVERGENCE)


def _unchanged(seen: Seen, state: State) -> States:
    return state[:, None, :].expand(-1, seen.drafted.shape[1], -1)
