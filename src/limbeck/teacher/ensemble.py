"""Several teachers that read the same tokens; the class probabilities of all are averaged.

Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 1 (the arithmetic mean of an
ensemble's predictions as soft targets).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..activations import CLASS_LOGITS, Name
from ..batch import Batch
from ..errors import ObjectiveError
from .live import LiveTeacher, as_autocast


@dataclass(frozen=True)
class EnsembleTeacher(LiveTeacher):
    """The first of several teachers, and the others beside it.

    Attributes:
        others: Each reads the tokens that the first reads.
        columns: For each of the others, which of its classes are those of the first, in order.
        multi_label: Whether the classes do not exclude one another.
    """

    others: tuple[LiveTeacher, ...]
    columns: tuple[tuple[int, ...], ...]
    multi_label: bool = False

    @property
    def models(self) -> Sequence[nn.Module]:
        """Of all teachers."""
        return [self.model, *(one.model for one in self.others)]

    def tensors(self, batch: Batch, wanted: set[Name]) -> dict[Name, Tensor]:
        """The averaged answers of all, as `LiveTeacher.tensors` gives those of one.

        Raises:
            ObjectiveError: Something other than class logits is needed.
        """
        if further := wanted - {CLASS_LOGITS}:
            kinds = ", ".join(sorted({name[0] for name in further}))
            raise ObjectiveError(
                f"several teachers give averaged class logits alone, and {kinds} is needed; name"
                " one teacher"
            )
        if not wanted:
            return {}
        answers = [super().tensors(batch, wanted)[CLASS_LOGITS]]
        for other, columns in zip(self.others, self.columns, strict=True):
            answers.append(other.tensors(batch, wanted)[CLASS_LOGITS][..., list(columns)])
        return {CLASS_LOGITS: as_autocast(averaged(answers, multi_label=self.multi_label))}


def averaged(
    answers: Sequence[Float[Tensor, "items classes"]], *, multi_label: bool = False
) -> Float[Tensor, "items classes"]:
    """The log of the mean of several models' class probabilities; of one number each, their mean.

    Args:
        answers: Logits of each model with the same columns, or one number for each item.
        multi_label: Whether the classes do not exclude one another: the logit of the mean of each
            one's probabilities.

    Returns:
        Float32, in nats; for numbers in their unit.
    """
    every = torch.stack([some.float() for some in answers])
    if multi_label:
        return logsigmoid(every).logsumexp(0) - logsigmoid(-every).logsumexp(0)
    if every.shape[-1] == 1:
        return every.mean(0)
    # Probabilities so small that they would be 0 keep their logarithm.
    return every.log_softmax(-1).logsumexp(0) - math.log(len(answers))
