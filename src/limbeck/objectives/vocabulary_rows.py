"""Losses over the vocabulary, a few rows at a time: rows x pieces is never held.

Loss and gradients are made together in the forward, so nothing of a block of rows
outlives it but its gradients by the student's features and by the output map.

Source: the idea of Wijmans et al. 2024, Cut Your Losses, arXiv:2411.09009.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..activations import Predictions, float32_region

_SCRATCH = 2**22  # logits held at once; a processor's matrix product needs rows enough
_SCRATCH_CUDA = 2**27

# Logits of a block of rows -> (sum of their losses, gradient by the logits); the slice tells
# which rows they are.
BlockLoss = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


def vocabulary_loss(
    student: Predictions, block_loss: BlockLoss, *, pieces: int
) -> Float[Tensor, ""]:
    """The sum of a loss over the student's predicted rows, float32.

    Args:
        student: Features and output map; both get gradients.
        block_loss: The loss and its gradient by the logits, in float32.
        pieces: Only so many of the first rows of the output map are pieces.
    """
    bias = student.bias
    total: Tensor = _VocabularyLoss.apply(  # type: ignore[no-untyped-call]
        student.features, student.weight, bias, block_loss, pieces
    )
    return total


class TeacherLogits:
    """A teacher's logits, made a block of rows at a time, without gradient."""

    def __init__(self, teacher: Predictions, *, pieces: int) -> None:
        self._features, self._weight = _multiplicands(teacher.features, teacher.weight[:pieces])
        self._bias = None if teacher.bias is None else teacher.bias[:pieces].detach().float()

    def rows(self, rows: slice) -> Float[Tensor, "rows pieces"]:
        """Float32 logits of some rows."""
        return _logits(self._features[rows], self._weight, self._bias)


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        block_loss: BlockLoss,
        pieces: int,
    ) -> Tensor:
        wanted = any(t is not None and t.requires_grad for t in (features, weight, bias))
        left, right = _multiplicands(features, weight[:pieces])
        slim = None if bias is None else bias[:pieces].float()
        total = torch.zeros((), device=features.device)
        of_features = torch.zeros_like(features) if wanted else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted else None
        of_bias = None if bias is None or not wanted else torch.zeros_like(bias)
        most = _SCRATCH_CUDA if features.is_cuda else _SCRATCH
        block = max(1, most // pieces)
        with float32_region(features):
            for start in range(0, len(features), block):
                rows = slice(start, min(start + block, len(features)))
                value, slope = block_loss(_logits(left[rows], right, slim), rows)
                total += value
                if of_features is None or of_weight is None:
                    continue
                if of_bias is not None:
                    of_bias[:pieces] += slope.sum(0)
                slope = slope.to(left.dtype)
                of_features[rows] = (slope @ right).to(of_features.dtype)
                of_weight[:pieces] += slope.mT @ left[rows]
        ctx.save_for_backward(of_features, of_weight, of_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias = (None if g is None else g * slope for g in ctx.saved_tensors)
        return features, weight, bias, None, None


def _multiplicands(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides of the product, in the precision that the model runs in."""
    device = features.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        return features.detach().to(dtype), weight.detach().to(dtype)
    return features.detach().float(), weight.detach().float()


def _logits(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    with float32_region(features):
        logits = (features @ weight.mT).float()
        return logits if bias is None else logits.add_(bias)
