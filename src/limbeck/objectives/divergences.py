"""How far a student's distribution is from its teacher's: every measure, one interface.

Each takes two distributions for every row and returns, for every row, the divergence and its
slope: the student's probability q times the derivative of the divergence by q. The gradient
by the student's logits is then ``slope - q * slope.sum()``, whatever the measure. A derivative
may lack a constant, because the subtraction removes it.

Source: skewed KL, Ko et al. 2024, DistiLLM, arXiv:2402.03898; total variation, Wen et
al. 2023, arXiv:2307.15190; generalised Jensen-Shannon, Agarwal et al. 2024, GKD,
arXiv:2306.13649; alpha-beta, Wang et al. 2025, ABKD, arXiv:2505.04560; adaptive KL, Wu
et al. 2025, arXiv:2404.02657.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ObjectiveError
from ..models.compiled import compiles
from .measures import MEASURES, divergence_problems

Found = tuple[Float[Tensor, " rows"], Float[Tensor, "rows vocabulary"]]

# Smaller probabilities count as this one: a ratio of two of them is finite in float32,
# and a token to which one side gives no probability has a large but finite cost.
LOWEST_LOG = -80.0
_LOWEST = math.exp(LOWEST_LOG)


class Distribution(NamedTuple):
    """Probabilities in rows, and their logarithms, clamped from below at `LOWEST_LOG`."""

    probabilities: Float[Tensor, "rows vocabulary"]
    logs: Float[Tensor, "rows vocabulary"]

    @classmethod
    def of_logits(cls, logits: Float[Tensor, "rows vocabulary"]) -> "Distribution":
        """The softmax of logits; the logits are overwritten with the logarithms."""
        if compiles():  # where passes over the logits count, and not exponentials
            return cls.of_logs(torch.log_softmax(logits, dim=-1))
        probabilities = torch.softmax(logits, dim=-1)
        # At the largest logit the softmax cannot have vanished, so its logarithm is exact;
        # this way each row needs only one exponential and one logarithm.
        size = logits.amax(-1, keepdim=True) - probabilities.amax(-1, keepdim=True).log_()
        return cls(probabilities, logits.sub_(size).clamp_min_(LOWEST_LOG))

    @classmethod
    def of_logs(cls, logs: Float[Tensor, "rows vocabulary"]) -> "Distribution":
        """The distribution with these logarithms of probabilities."""
        logs = logs.clamp_min(LOWEST_LOG)
        return cls(logs.exp(), logs)


Divergence = Callable[[Distribution, Distribution], Found]


def forward_kl(student: Distribution, teacher: Distribution) -> Found:
    """KL(teacher || student): the student covers all that the teacher finds possible."""
    p = teacher.probabilities
    return (teacher.logs - student.logs).mul_(p).sum(-1), -p


def reverse_kl(student: Distribution, teacher: Distribution) -> Found:
    """KL(student || teacher): the student keeps to what the teacher finds likely."""
    slope = (student.logs - teacher.logs).mul_(student.probabilities)
    return slope.sum(-1), slope


def total_variation(student: Distribution, teacher: Distribution) -> Found:
    """Half the sum of absolute differences; never above 1."""
    q = student.probabilities
    difference = q - teacher.probabilities
    return 0.5 * difference.abs().sum(-1), 0.5 * q * difference.sign_()


def jensen_shannon(student: Distribution, teacher: Distribution, *, beta: float) -> Found:
    """KL of both to their mixture, whose share beta is the teacher's."""
    p, q = teacher.probabilities, student.probabilities
    middle = (beta * p + (1 - beta) * q).clamp_min_(_LOWEST).log_()
    from_student = (1 - beta) * q * (student.logs - middle)
    return (beta * p * (teacher.logs - middle) + from_student).sum(-1), from_student


def skewed_kl(student: Distribution, teacher: Distribution, *, alpha: float) -> Found:
    """KL(teacher || mixture), where the share alpha of the mixture is the teacher's."""
    if alpha == 0:
        return forward_kl(student, teacher)
    # Clamped as the logarithms are: where q vanishes and alpha is tiny, the slope is -p.
    p, q = teacher.probabilities, student.probabilities.clamp_min(_LOWEST)
    middle = alpha * p + (1 - alpha) * q
    return (p * (teacher.logs - middle.log())).sum(-1), (alpha - 1) * q * p / middle


def skewed_reverse_kl(student: Distribution, teacher: Distribution, *, alpha: float) -> Found:
    """KL(student || mixture), where the share alpha of the mixture is the student's."""
    if alpha == 0:
        return reverse_kl(student, teacher)
    p, q = teacher.probabilities, student.probabilities
    middle = ((1 - alpha) * p + alpha * q).clamp_min_(_LOWEST)
    value = q * (student.logs - middle.log())
    return value.sum(-1), value - alpha * q * q / middle


def alpha_beta(student: Distribution, teacher: Distribution, *, alpha: float, beta: float) -> Found:
    """The alpha-beta family: (1, 0) is the forward KL, (0, 1) the reverse.

    alpha weights the teacher's probabilities, beta the student's. Neither may be below 0, where
    the divergence is infinite if a probability is 0.
    """
    both = (alpha * teacher.logs + beta * student.logs).exp()
    ratio, total = teacher.logs - student.logs, alpha + beta
    if alpha == 0 and beta == 0:
        return 0.5 * ratio.square().sum(-1), -ratio
    if alpha == 0:
        of_student, of_teacher = both, (beta * teacher.logs).exp()
        value = (of_teacher - of_student - beta * of_student * ratio) / beta**2
        return value.sum(-1), -of_student * ratio
    of_student = (total * student.logs).exp()
    slope = (of_student - both) / alpha
    if beta == 0:
        value = (alpha * both * ratio - both + of_student) / alpha**2
    else:
        sums = alpha * (total * teacher.logs).exp() + beta * of_student
        value = (sums / total - both) / (alpha * beta)
    return value.sum(-1), slope


def adaptive_kl(student: Distribution, teacher: Distribution, *, head: float) -> Found:
    """Forward and reverse KL, weighted by where the student is wrong.

    The forward KL is weighted by the student's error on the most likely tokens, which hold
    ``head`` of the teacher's probability, the reverse KL by its error on the rest. The weights
    are constants: no gradient passes through them.
    """
    p = teacher.probabilities
    ordered, places = p.sort(dim=-1, descending=True, stable=True)
    error = (p - student.probabilities).abs().gather(-1, places)
    in_head = ordered.cumsum(-1) - ordered < head
    all_error = error.sum(-1)
    share = torch.where(in_head, error, 0).sum(-1) / all_error.clamp_min(1e-30)
    forward, forward_slope = forward_kl(student, teacher)
    reverse, reverse_slope = reverse_kl(student, teacher)
    slope = share[:, None] * forward_slope + (1 - share)[:, None] * reverse_slope
    return share * forward + (1 - share) * reverse, slope


DIVERGENCES: dict[str, Callable[..., Found]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "total_variation": total_variation,
    "jensen_shannon": jensen_shannon,
    "skewed_kl": skewed_kl,
    "skewed_reverse_kl": skewed_reverse_kl,
    "alpha_beta": alpha_beta,
    "adaptive_kl": adaptive_kl,
}


def divergence_of(name: str, options: Mapping[str, float]) -> Divergence:
    """The measure of that name, with its options filled in.

    Raises:
        ObjectiveError: There is no such measure, it has no such option, or the value of an
            option is out of range.

    >>> p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]])
    >>> student, teacher = Distribution.of_logs(q.log()), Distribution.of_logs(p.log())
    >>> value, slope = divergence_of("total_variation", {})(student, teacher)
    >>> value.tolist(), slope.tolist()
    ([0.25], [[-0.125, 0.375]])
    """
    if problems := divergence_problems(name, options):
        raise ObjectiveError("; ".join(f"{field} {message}" for field, message in problems))
    defaults = {option: known.default for option, known in MEASURES[name].options.items()}
    return partial(DIVERGENCES[name], **{**defaults, **options})
