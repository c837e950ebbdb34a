"""The student learns to predict each token with the probabilities that its teacher gives.

Source: Hinton et al. 2015, arXiv:1503.02531; for masked-language models Sanh et al.
2019, DistilBERT, arXiv:1910.01108; sampled teachers, Anshumann et al. 2025,
arXiv:2503.16870.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..activations import Activations
from ..batch import Batch
from ..errors import ObjectiveError, Problem
from ..models.shapes import Shape
from ..student.projections import Projections
from ..token_ids import TokenIds
from .contract import required
from .divergences import Distribution, Divergence, Found, divergence_of
from .options import LogitsOptions
from .predicted import PredictedObjective, vocabulary_problems, within_vocabulary
from .schedule import number
from .vocabulary_rows import vocabulary_loss


@dataclass(frozen=True)
class Logits(LogitsOptions, PredictedObjective):
    """Divergence of output distributions, summed over the predicted positions.

    Attributes:
        vocabulary: Rows of both output maps that are tokens of the tokenizer, or how many
            of the first rows are compared; by default as the models have it, which then have
            the same. Rows without a token, at the end or in between, are left out on both
            sides, and the remaining probabilities are normalized to sum to one.
    """

    vocabulary: TokenIds | int | None = None
    unit: ClassVar[str] = "nats per predicted token, times the temperature squared"

    def problems_between(self, student: Shape, teacher: Shape) -> list[Problem]:
        """Different vocabularies, or more tokens than both have."""
        mine, theirs = student.token_ids, teacher.token_ids
        found: list[Problem] = []
        if mine != theirs and self.vocabulary is None:
            known = student.tokens is not None or teacher.tokens is not None
            differ = vocabularies_differ if known else _tables_differ
            found.append(("", differ(len(mine), len(theirs))))
        most = len(within_vocabulary(mine.below(theirs.end), self.vocabulary))
        if self.signal != "dense" and self.compared >= most:
            found.append(
                (
                    "num_samples" if self.signal == "sampled" else "top_k",
                    f"is {self.compared}; give 1 to {most - 1}",
                )
            )
        return found + vocabulary_problems(self.vocabulary, min(mine.end, theirs.end))

    def bound(self, student: Shape, teacher: Shape | None) -> "Logits":
        """The same objective with the rows that are tokens of both models."""
        of_both = student.token_ids.below(required(teacher).vocab_size)
        return replace(self, vocabulary=within_vocabulary(of_both, self.vocabulary))

    def total(
        self, student: Activations, teacher: Activations, batch: Batch, projections: Projections
    ) -> Tensor:
        """Nats times the temperature squared, summed over the predicted positions."""
        if student.predictions is None or teacher.predictions is None:
            raise ObjectiveError("output distributions need predictions of student and teacher")
        ids = TokenIds.given(self.vocabulary or len(student.predictions.weight))
        measure = divergence_of(self.divergence, self.divergence_options)
        compare = _COMPARED[self.signal]
        temperature = float(number(self.temperature))

        def block_loss(logits: Tensor, of_teacher: Tensor) -> tuple[Tensor, Tensor]:
            if temperature != 1:
                logits, of_teacher = logits.div_(temperature), of_teacher.div_(temperature)
            mine = Distribution.of_logits(logits)
            values, slope = compare(
                mine, Distribution.of_logits(of_teacher), measure, self.compared
            )
            gradient = slope.addcmul_(mine.probabilities, slope.sum(-1, keepdim=True), value=-1)
            # By the chain rule the division above takes one T of T^2.
            if temperature != 1:
                gradient.mul_(temperature)
            return values.sum() * temperature**2, gradient

        return vocabulary_loss(student.predictions, teacher.predictions, block_loss, tokens=ids)


def vocabularies_differ(student: int, teacher: int) -> str:
    """The error for two vocabularies that cannot be compared token by token, with what to do."""
    return (
        f"the student has {student} tokens and the teacher {teacher}: they tokenize the"
        " text differently, so nothing can be compared token by token (logits, hidden_states,"
        " relations, ...). Keep the teacher's tokenizer; or say where the two can be compared"
        " (`alignment: match` or `reduce`); or begin with a `mixed` stage, in which the teacher"
        " learns both vocabularies"
    )


def _tables_differ(student: int, teacher: int) -> str:
    """What is wrong with two models of which only the output maps are known."""
    return (
        f"compares {student} rows of the student's output map with {teacher} of the teacher's."
        " Where both models have one tokenizer, and a table has further rows, give its tokens'"
        " number: Logits(vocabulary=len(tokenizer)); other tokens are compared in a recipe"
        " (limbeck.distill)"
    )


def _dense(student: Distribution, teacher: Distribution, measure: Divergence, _: int) -> Found:
    return measure(student, teacher)


def _top_k(student: Distribution, teacher: Distribution, measure: Divergence, tokens: int) -> Found:
    """The teacher's most likely tokens, and all other tokens as one more."""
    of_teacher, places = teacher.logs.topk(tokens, dim=-1)
    # The rest is summed: one minus the top tokens would be rounding errors where little is left.
    # Logarithms are clamped, so that none of the student's probabilities vanishes.
    outside = student.logs.exp().scatter_(-1, places, 0.0)
    rest = outside.sum(-1, keepdim=True)
    of_others = teacher.probabilities.scatter_(-1, places, 0.0).sum(-1, keepdim=True)
    values, slope = measure(
        Distribution.of_logs(torch.cat([student.logs.gather(-1, places), rest.log()], dim=-1)),
        Distribution.of_logs(torch.cat([of_teacher, of_others.log_()], dim=-1)),
    )
    # The slope of the rest is shared among its tokens in proportion to their probabilities.
    share = outside.mul_(slope[:, -1:] / rest)
    return values, share.scatter_(-1, places, slope[:, :-1])


def _sampled(
    student: Distribution, teacher: Distribution, measure: Divergence, tokens: int
) -> Found:
    """The teacher's distribution is estimated from tokens drawn from it."""
    drawn = torch.multinomial(teacher.probabilities, tokens, replacement=True)
    values = (teacher.logs.gather(-1, drawn) - student.logs.gather(-1, drawn)).mean(-1)
    share = torch.full_like(drawn, -1, dtype=student.logs.dtype) / tokens
    return values, torch.zeros_like(student.logs).scatter_add_(-1, drawn, share)


_COMPARED: dict[str, Callable[[Distribution, Distribution, Divergence, int], Found]] = {
    "dense": _dense,
    "top_k": _top_k,
    "sampled": _sampled,
}
