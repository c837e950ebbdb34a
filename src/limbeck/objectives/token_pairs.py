"""Relations of token pairs in two models, compared without ever holding all pairs.

Every token's vector is compared with every other's, in each of several slices (heads) of the
vectors. Loss and gradients are computed together in the forward, a text and a block of its
tokens at a time, so scratch memory grows with the length of a text and not with its square.

Source: relations, Wang et al. 2021, MiniLMv2, arXiv:2012.15828, section 3; attention
scores, Jiao et al. 2020, TinyBERT, arXiv:1909.10351.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..activations import float32_region
from ..errors import ObjectiveError
from ..system.device import has_triton

_SCRATCH = 2**19  # pairs held at once; more falls out of a processor's cache
_SCRATCH_CUDA = 2**26
_WIDEST = 128  # a wider slice of a vector does not fit into a program's registers

# Scores of a block of tokens with all tokens of their text, the student's and the teacher's,
# and which of them are hidden -> (sum of the losses, gradient by the student's scores). The
# loss may overwrite the scores.
PairLoss = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def compared_pairs(
    student_left: Float[Tensor, "batch tokens student_width"],
    student_right: Float[Tensor, "batch tokens student_width"],
    teacher_left: Float[Tensor, "batch tokens teacher_width"],
    teacher_right: Float[Tensor, "batch tokens teacher_width"],
    mask: Bool[Tensor, "batch tokens"],
    *,
    loss: PairLoss,
    heads: int,
    causal: bool = False,
    documents: Int[Tensor, "batch tokens"] | None = None,
    padded: bool | None = None,
) -> Float[Tensor, ""]:
    """The sum over real tokens of a loss between the student's scores and the teacher's.

    A score is one token's product with another's, divided by the root of a slice's width.

    Args:
        student_left: Left sides of the products: queries for QQ and QK, keys for KK, ...
        student_right: Right sides of the products: queries for QQ, keys for KK and QK, ...
        teacher_left: The teacher's left sides, which get no gradient.
        teacher_right: The teacher's right sides, which get no gradient.
        mask: True at real tokens. Padding is left out on both sides of a product.
        loss: `relation_divergence` or `score_difference`.
        heads: Slices to split each vector into, for both models.
        causal: Whether a token is compared only with itself and with earlier tokens.
        documents: The document of each token, where several documents stand in a row: a token is
            compared only with tokens of its own document.
        padded: Whether there is padding; by default the mask's device is asked, and waited for.

    Returns:
        Float32, averaged over heads and summed over real tokens. The loop divides by the
        real tokens of the whole optimizer step. MiniLM averages each sequence on its own, so
        long texts have more weight here.

    Raises:
        ObjectiveError: The heads do not divide a width.
    """
    for owner, vectors in (("student", student_left), ("teacher", teacher_left)):
        if vectors.shape[-1] % heads:
            both = math.gcd(student_left.shape[-1], teacher_left.shape[-1])
            valid = [n for n in range(1, both + 1) if both % n == 0]
            raise ObjectiveError(
                f"the {owner}'s width {vectors.shape[-1]} is not a multiple of"
                f" heads={heads}; use one of {valid}"
            )
    total: Tensor = _Pairs.apply(  # type: ignore[no-untyped-call]
        student_left,
        None if student_right is student_left else student_right,
        teacher_left.detach(),
        None if teacher_right is teacher_left else teacher_right.detach(),
        mask,
        documents,
        heads,
        causal,
        loss,
        not bool(mask.all()) if padded is None else padded,
    )
    return total


class _Pairs(torch.autograd.Function):
    """A right side of None means that it equals the left side, which is split only once."""

    @staticmethod
    def forward(
        ctx: Any,
        student_left: Tensor,
        student_right: Tensor | None,
        teacher_left: Tensor,
        teacher_right: Tensor | None,
        mask: Tensor,
        documents: Tensor | None,
        heads: int,
        causal: bool,
        pair_loss: PairLoss,
        padded: bool,
    ) -> Tensor:
        of_student = [v for v in (student_left, student_right) if v is not None]
        wanted = any(vectors.requires_grad for vectors in of_student)
        if pair_loss is relation_divergence and kernels_take(student_left, teacher_left, heads):
            from .fused_relations import divergence_and_gradients

            total, gradients = divergence_and_gradients(
                (student_left, of_student[-1]),
                (teacher_left, teacher_left if teacher_right is None else teacher_right),
                mask if padded else None,
                documents,
                heads=heads,
                causal=causal,
                wanted=wanted,
            )
            ctx.save_for_backward(*gradients)
            return total
        gradients = [torch.zeros_like(vectors) for vectors in of_student] if wanted else []
        total = torch.zeros((), device=mask.device)
        with float32_region(mask):
            for place, padding in _places(mask, heads, padded=padded):
                student = [_heads(vectors[place], heads, padding) for vectors in of_student]
                teacher = [
                    _heads(vectors[place], heads, padding)
                    for vectors in (teacher_left, teacher_right)
                    if vectors is not None
                ]
                sides = student[0], student[-1], teacher[0], teacher[-1]
                apart = None if documents is None else documents[place]
                value, *slopes = _text(
                    *sides, padding, apart, pair_loss, wanted=wanted, causal=causal
                )
                total += value / heads
                if len(of_student) == 1:
                    slopes = [slopes[0].add_(slopes[1])]
                for gradient, slope in zip(gradients, slopes, strict=False):
                    joined = slope.mul_(1 / heads).transpose(1, 2).flatten(2)
                    gradient[place] = joined.to(gradient.dtype)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        left, *right = (gradient * slope for gradient in ctx.saved_tensors)
        return left, right[0] if right else None, *[None] * 8


def kernels_take(student: Tensor, teacher: Tensor, heads: int) -> bool:
    """Whether GPU kernels compare these vectors: none that are split into wider slices."""
    slices = max(student.shape[-1], teacher.shape[-1]) // heads
    return _on_gpu(student) and slices <= _WIDEST and has_triton()


def _places(mask: Tensor, heads: int, *, padded: bool) -> Iterator[tuple[Any, Tensor | None]]:
    """Indices of texts that are computed together, with their padding if there is any."""
    texts, tokens = mask.shape
    if not tokens:  # of two vocabularies nothing was the same
        return
    # A CPU saves the work on padding; for a GPU many small steps would cost more than padding.
    if not padded or _on_gpu(mask):
        together = max(1, _scratch(mask) // (heads * tokens * tokens))
        for start in range(0, texts, together):
            place = slice(start, start + together)
            yield place, ~mask[place] if padded else None
        return
    for text in range(texts):
        real = mask[text].nonzero().squeeze(1)
        if len(real):
            yield (torch.tensor([text], device=mask.device)[:, None], real[None, :]), None


def _scratch(tensor: Tensor) -> int:
    return _SCRATCH_CUDA if _on_gpu(tensor) else _SCRATCH


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _heads(
    vectors: Tensor, heads: int, padding: Tensor | None
) -> Float[Tensor, "texts heads tokens slice"]:
    """Slices of the vectors; padding is 0 in both models, so that it adds nothing to a loss."""
    if padding is not None:
        vectors = vectors.masked_fill(padding[..., None], 0.0)
    split = vectors.float().reshape(*vectors.shape[:2], heads, -1)
    return split.transpose(1, 2).contiguous()


def _text(
    student_left: Tensor,
    student_right: Tensor,
    teacher_left: Tensor,
    teacher_right: Tensor,
    padding: Tensor | None,
    documents: Tensor | None,
    pair_loss: PairLoss,
    *,
    wanted: bool,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum over texts, heads and tokens and, if needed, its two gradients."""
    texts, heads, tokens, width = student_left.shape
    block = max(1, _scratch(student_left) // (texts * heads * tokens))
    total = torch.zeros((), device=student_left.device)
    slope_left = torch.empty_like(student_left)
    slope_right = torch.zeros_like(student_right)
    for start in range(0, tokens, block):
        rows = slice(start, start + block)
        hidden = _hidden(rows, student_left, padding, documents, causal=causal)
        value, slope = pair_loss(
            _scores(student_left[:, :, rows], student_right),
            _scores(teacher_left[:, :, rows], teacher_right),
            hidden,
        )
        total += value
        if wanted:
            slope_left[:, :, rows] = slope @ student_right
            slope_right += slope.mT @ student_left[:, :, rows]
    return total, slope_left.mul_(width**-0.5), slope_right.mul_(width**-0.5)


def _scores(left: Tensor, right: Tensor) -> Tensor:
    scale: float = left.shape[-1] ** -0.5
    return (left * scale) @ right.mT


def _hidden(
    rows: slice, like: Tensor, padding: Tensor | None, documents: Tensor | None, *, causal: bool
) -> Tensor | None:
    """True where a pair is left out: with padding, another document's token, or a later token."""
    hidden = None if padding is None else padding[:, None, None, :]
    if documents is not None:
        others = documents[:, None, rows, None] != documents[:, None, None, :]
        hidden = others if hidden is None else hidden | others
    if causal:
        places = torch.arange(like.shape[2], device=like.device)
        later = places > places[rows, None]
        hidden = later if hidden is None else hidden | later
    return hidden


def relation_divergence(
    student_scores: Tensor, teacher_scores: Tensor, hidden: Tensor | None
) -> tuple[Tensor, Tensor]:
    """KL(teacher relations || student relations) in nats; relations are softmaxed scores."""
    student, student_size = _relations(student_scores, hidden)
    teacher, teacher_size = _relations(teacher_scores, hidden)
    # sum p (log p - log q) with log p = score - size: no pass of logarithms over all
    # relations. Row by row, because over all rows two large sums would cancel.
    expected = teacher_scores.sub_(student_scores).mul_(teacher).sum(dim=-1)
    return (expected - teacher_size + student_size).sum(), student.sub_(teacher)


def score_difference(
    student_scores: Tensor, teacher_scores: Tensor, hidden: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Squared difference, averaged over the tokens that a token attends to."""
    difference = student_scores.sub_(teacher_scores)
    attended = torch.full((difference.shape[-2], 1), difference.shape[-1], device=difference.device)
    if hidden is not None:
        difference.masked_fill_(hidden, 0.0)
        attended = (~hidden).sum(-1, keepdim=True).clamp_min(1)
    slope = difference / attended
    return (slope * difference).sum(), slope.mul_(2)


def _relations(scores: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
    """The softmax over all tokens, and the logarithm of its denominator."""
    if hidden is not None:
        # The lowest finite number, because the difference of infinite numbers would be NaN.
        scores.masked_fill_(hidden, torch.finfo(scores.dtype).min)
    relations = torch.softmax(scores, dim=-1)
    # At the largest score the softmax cannot have vanished, so its logarithm is exact.
    size = scores.amax(dim=-1) - relations.amax(dim=-1).log_()
    return relations, size
