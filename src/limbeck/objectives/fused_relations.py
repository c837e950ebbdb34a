"""The relations of token pairs on a GPU, by kernels that keep no score in memory."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .relation_kernels import BLOCK, gradients_of_block, sizes_of_block

Student = tuple[Float[Tensor, "texts tokens mine"], Float[Tensor, "texts tokens mine"]]
Teacher = tuple[Float[Tensor, "texts tokens theirs"], Float[Tensor, "texts tokens theirs"]]


def divergence_and_gradients(
    student: Student,
    teacher: Teacher,
    mask: Bool[Tensor, "texts tokens"] | None,
    documents: Int[Tensor, "texts tokens"] | None,
    *,
    heads: int,
    causal: bool,
    wanted: bool,
) -> tuple[Float[Tensor, ""], list[Tensor]]:
    """KL(teacher relations || student relations), and its gradients by the student's sides.

    Args:
        student: Left and right sides of the products, (texts, tokens, width); the same tensor twice
            where the sides are the same.
        teacher: The teacher's sides.
        mask: True at real tokens, (texts, tokens); None where all are.
        documents: The document of each token, (texts, tokens); None where a text is one.
        heads: Slices of each vector.
        causal: Whether a token is compared only with itself and with earlier tokens.
        wanted: Whether gradients are needed.

    Returns:
        Nats, averaged over heads and summed over real tokens, float32; and the gradients by the
        student's sides, one where they are the same tensor, none where none is wanted.
    """
    texts, tokens, _ = student[0].shape
    left, right = (side.contiguous() for side in student)
    of_left, of_right = (side.contiguous() for side in teacher)
    marks, hiding = _marks(mask, documents, left)
    options = {**_options(left, of_left, heads), "HIDING": hiding, "CAUSAL": causal}
    grid = (-(-tokens // BLOCK), heads, texts)
    sizes = left.new_empty(2, texts, heads, tokens, dtype=torch.float32)
    values = left.new_empty(grid, dtype=torch.float32)
    sides = (left, of_left, right, of_right)
    sizes_of_block[grid](sides, marks, sizes, values, tokens, heads, **options)
    total = values.sum() / heads
    if not wanted:
        return total, []
    same = student[0] is student[1]
    if same and teacher[0] is teacher[1]:
        parts = [(sides, {"OUT": True, "INTO": True})]
    else:
        swapped = (right, of_right, left, of_left)
        parts = [(sides, {"OUT": True, "INTO": False}), (swapped, {"OUT": False, "INTO": True})]
    gradients = []
    for given, flags in parts:
        gradient = torch.empty_like(left)
        gradients_of_block[grid](given, marks, sizes, gradient, tokens, heads, **options, **flags)
        gradients.append(gradient)
    return total, [torch.stack(gradients).sum(0)] if same and len(gradients) > 1 else gradients


def _marks(
    mask: Tensor | None, documents: Tensor | None, like: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[bool, bool]]:
    """Which tokens are real, and of which document; and whether the kernels read both."""
    real = like if mask is None else mask.contiguous().view(torch.uint8)
    document = like if documents is None else documents.to(torch.int32).contiguous()
    return (real, document), (mask is not None, documents is not None)


def _options(student: Tensor, teacher: Tensor, heads: int) -> dict[str, Any]:
    """Sizes of slices, and the precision of products."""
    widths = student.shape[-1] // heads, teacher.shape[-1] // heads
    # Products of halves are exact in float32; a slope times a half is rounded once, to tf32.
    of_scores = "ieee" if torch.float32 in (student.dtype, teacher.dtype) else "tf32"
    of_slopes = "ieee" if student.dtype == torch.float32 else "tf32"
    return {
        "WIDTHS": widths,
        "PADDED": tuple(max(16, _power_of_2(width)) for width in widths),
        "SIZE": BLOCK,
        "OF_SCORES": of_scores,
        "OF_SLOPES": of_slopes,
        "num_warps": 2 if max(widths) <= BLOCK else 4,
    }


def _power_of_2(size: int) -> int:
    """The smallest that is not below a size."""
    return 1 << (size - 1).bit_length()
