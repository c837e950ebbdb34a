"""The divergence of two models' relations, without ever holding all relations at once.

A relation is the softmax of one token's vector against every token's, for each
of several slices (relation heads) of the vectors. Loss and gradients are made
together in the forward, a text and a block of its tokens at a time, so scratch
memory grows with the length of a text and not with its square.

Source: Wang et al. 2021, MiniLMv2, arXiv:2012.15828, section 3.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..activations import float32_region
from ..errors import ObjectiveError

_SCRATCH = 2**19  # relations held at once; more falls out of a processor's cache
_SCRATCH_CUDA = 2**26

Vectors = Float[Tensor, "batch tokens width"]


def relation_divergence(
    student_left: Float[Tensor, "batch tokens student_width"],
    student_right: Float[Tensor, "batch tokens student_width"],
    teacher_left: Float[Tensor, "batch tokens teacher_width"],
    teacher_right: Float[Tensor, "batch tokens teacher_width"],
    mask: Bool[Tensor, "batch tokens"],
    *,
    relation_heads: int,
) -> Float[Tensor, ""]:
    """Sum of KL(teacher relations || student relations) over real tokens.

    Args:
        student_left: Whose relations: queries for QQ and QK, keys for KK, ...
        student_right: To whom: queries for QQ, keys for KK and QK, ...
        teacher_left: The same of the teacher; it gets no gradient.
        teacher_right: Likewise.
        mask: True at real tokens. Padding is neither compared nor related to.
        relation_heads: Slices to cut each vector into, for both models.

    Returns:
        Nats, float32, averaged over relation heads and summed over real
        tokens. The loop divides by the real tokens of the whole optimizer step;
        the paper averages each sequence on its own, so long texts weigh more here.

    Raises:
        ObjectiveError: A width does not divide by the relation heads.
    """
    for owner, vectors in (("student", student_left), ("teacher", teacher_left)):
        if vectors.shape[-1] % relation_heads:
            both = torch.gcd(
                torch.tensor(student_left.shape[-1]), torch.tensor(teacher_left.shape[-1])
            )
            valid = [n for n in range(1, int(both) + 1) if int(both) % n == 0]
            raise ObjectiveError(
                f"the {owner}'s width {vectors.shape[-1]} is not a multiple of"
                f" relation_heads={relation_heads}; use one of {valid}"
            )
    total: Tensor = _RelationDivergence.apply(
        student_left,
        student_right,
        teacher_left.detach(),
        teacher_right.detach(),
        mask,
        relation_heads,
    )
    return total


class _RelationDivergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student_left: Tensor,
        student_right: Tensor,
        teacher_left: Tensor,
        teacher_right: Tensor,
        mask: Tensor,
        heads: int,
    ) -> Tensor:
        wanted = student_left.requires_grad or student_right.requires_grad
        gradients = [torch.zeros_like(v) if wanted else v for v in (student_left, student_right)]
        total = torch.zeros((), device=mask.device)
        with float32_region(mask):
            for row in range(mask.shape[0]):
                real = mask[row].nonzero().squeeze(1)
                if not len(real):
                    continue
                cut = [
                    _heads(vectors[row, real], heads)
                    for vectors in (student_left, student_right, teacher_left, teacher_right)
                ]
                value, *slopes = _one_text(*cut, wanted=wanted)
                total += value
                for gradient, slope in zip(gradients, slopes, strict=False):
                    joined = slope.transpose(0, 1).reshape(len(real), -1)
                    gradient[row, real] = joined.to(gradient.dtype)
        if wanted:
            ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        return left * slope, right * slope, None, None, None, None


def _heads(vectors: Tensor, heads: int) -> Float[Tensor, "heads tokens slice"]:
    return vectors.float().reshape(vectors.shape[0], heads, -1).transpose(0, 1).contiguous()


def _one_text(
    student_left: Tensor,
    student_right: Tensor,
    teacher_left: Tensor,
    teacher_right: Tensor,
    *,
    wanted: bool,
) -> tuple[Tensor, ...]:
    """The sum over a text's tokens and, if wanted, its two gradients."""
    heads, tokens, _ = student_left.shape
    budget = _SCRATCH_CUDA if student_left.is_cuda else _SCRATCH
    block = max(1, budget // (heads * tokens))
    scale = student_left.shape[-1] ** -0.5
    total = torch.zeros((), device=student_left.device)
    slope_left = torch.empty_like(student_left)
    slope_right = torch.zeros_like(student_right)
    for start in range(0, tokens, block):
        rows = slice(start, start + block)
        student, student_size = _relations(student_left[:, rows], student_right)
        teacher, teacher_size = _relations(teacher_left[:, rows], teacher_right)
        # sum p (log p - log q), with log p = score - size: the scores come from the vectors
        # again, which costs a slice a token instead of a pass over all relations.
        expected_teacher = (teacher @ teacher_right * teacher_left[:, rows]).sum()
        expected_student = (teacher @ student_right * student_left[:, rows]).sum()
        total += expected_teacher * teacher_left.shape[-1] ** -0.5 - expected_student * scale
        total += student_size.sum() - teacher_size.sum()
        if wanted:
            difference = student.sub_(teacher)
            slope_left[:, rows] = difference @ student_right
            slope_right += difference.mT @ student_left[:, rows]
    total /= heads
    return total, slope_left.mul_(scale / heads), slope_right.mul_(scale / heads)


def _relations(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax over all tokens, and the logarithm of its denominator."""
    scores = (left * left.shape[-1] ** -0.5) @ right.mT
    highest = scores.amax(dim=-1, keepdim=True)
    scores.sub_(highest).exp_()
    size = scores.sum(dim=-1, keepdim=True)
    scores.div_(size)
    return scores, size.log_() + highest
