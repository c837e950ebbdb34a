"""Losses over the vocabulary, a few rows at a time: rows x tokens is never held.

Loss and gradients are computed together in the forward. Rows pass through the output map in
groups, large enough for the matrix products, and through the loss in blocks, small enough for a
processor's cache; the slopes of a block overwrite its logits. Only the gradients by the features
and by the output map are kept of a group.

Source: the idea of Wijmans et al. 2024, Cut Your Losses, arXiv:2411.09009.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..activations import Merge, Predictions, Selected, float32_region, soft_capped
from ..models.compiled import compiled, compiles
from ..token_ids import TokenIds

_GROUP = 2**23  # logits in one matrix product, in the precision of the model
_GROUP_CUDA = 2**28
_BLOCK = 2**18  # logits in one pass of the loss, in float32
_BLOCK_CUDA = 2**26  # a compiled loss holds no logits in float32, and takes a whole group
_TOKENS = 2**13  # rows of the output map converted to the model's precision at once
_TOKENS_CUDA = 2**17

# The student's logits of some rows, the teacher's if there is one, and what else belongs to the
# rows -> (sum of their losses, gradient by the student's logits). The loss may overwrite logits.
BlockLoss = Callable[..., tuple[Tensor, Tensor]]


def vocabulary_loss(
    student: Predictions,
    teacher: Predictions | None,
    block_loss: BlockLoss,
    *,
    tokens: TokenIds | int,
    teacher_tokens: TokenIds | int | None = None,
    of_rows: Sequence[Tensor] = (),
) -> Float[Tensor, ""]:
    """The sum of a loss over the student's predicted rows, float32.

    Args:
        student: Features and output map; both get gradients, once.
        teacher: Features of the same rows and an output map, without gradients.
        block_loss: The loss and its gradient by the student's logits, in float32.
        tokens: The rows of an output map that are tokens, or how many of the first rows are; all
            of the student's where its logits are merged. The loss gets one column for each.
        teacher_tokens: The rows of the teacher's map that are tokens; by default the same.
        of_rows: What the loss is given beside logits, with one entry for each predicted row.
    """
    ids = TokenIds.given(tokens)
    total: Tensor = _VocabularyLoss.apply(  # type: ignore[no-untyped-call]
        student.features,
        student.weight,
        student.bias,
        student.soft_cap,
        student.merge,
        teacher,
        block_loss,
        ids,
        ids if teacher_tokens is None else TokenIds.given(teacher_tokens),
        of_rows,
        torch.is_grad_enabled(),  # within the function gradients are never enabled
    )
    return total


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        soft_cap: float | None,
        merge: Merge | None,
        teacher: Predictions | None,
        block_loss: BlockLoss,
        ids: TokenIds,
        teacher_ids: TokenIds,
        of_rows: Sequence[Tensor],
        learns: bool,
    ) -> Tensor:
        given = (features, weight, bias)
        wanted = learns and any(t is not None and t.requires_grad for t in given)
        own = ids if merge is None else TokenIds(len(weight))
        student = _Map(Predictions(features, weight, bias, soft_cap), own)
        maps: list[_Map | _Known] = [student]
        if teacher is not None:
            known = teacher.selected
            maps.append(_Known(known, teacher_ids) if known else _Map(teacher, teacher_ids))
        total = torch.zeros((), device=features.device)
        of_features = torch.zeros_like(features, dtype=torch.float32) if wanted else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted else None
        of_bias = None if bias is None or not wanted else torch.zeros_like(bias)
        group_size, block_size = _sizes(features, len(ids))
        with float32_region(features):
            for group in _even_slices(len(features), group_size):
                logits = [model.logits(group) for model in maps]
                for rows in _slices(group.stop - group.start, block_size):
                    place = slice(group.start + rows.start, group.start + rows.stop)
                    value, slope, by_bias = _block(
                        block_loss,
                        merge,
                        [made[rows] for made in logits],
                        [model.bias for model in maps],
                        [model.soft_cap for model in maps],
                        [given[place] for given in of_rows],
                        learns_bias=of_bias is not None,
                    )
                    total += value
                    if of_bias is not None and by_bias is not None:
                        of_bias[student.columns] += by_bias
                    if len(slope) == len(logits[0]):
                        logits[0] = slope
                    elif wanted:
                        logits[0][rows] = slope
                if of_features is not None and of_weight is not None:
                    student.add_gradients(logits[0], group, of_features, of_weight)
        ctx.save_for_backward(
            None if of_features is None else of_features.to(features.dtype), of_weight, of_bias
        )
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        # In place: a second copy of the output map's gradient would be the largest tensor here.
        features, weight, bias = (None if g is None else g.mul_(slope) for g in ctx.saved_tensors)
        return features, weight, bias, *[None] * 8


@compiled
def _block(
    block_loss: BlockLoss,
    merge: Merge | None,
    logits: list[Tensor],
    biases: list[Tensor | None],
    soft_caps: list[float | None],
    of_rows: list[Tensor],
    *,
    learns_bias: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A block's loss, and its gradients by the student's products and, if it learns, the bias."""
    here = [_in_float32(*given) for given in zip(logits, biases, soft_caps, strict=True)]
    bounded = None if soft_caps[0] is None else 1 - (here[0] / soft_caps[0]).square()
    if merge is None:
        value, slope = block_loss(*here, *of_rows)
    else:
        merged, back = merge(here[0])
        value, slope = block_loss(merged, *here[1:], *of_rows)
        slope = back(slope)
    slope = slope if bounded is None else slope * bounded
    return value, slope.to(logits[0].dtype), slope.sum(0) if learns_bias else None


def _in_float32(
    logits: Tensor, bias: Tensor | None, soft_cap: float | None
) -> Float[Tensor, "rows vocabulary"]:
    """Logits in float32, with the bias, within their bound."""
    found = logits.float()
    if bias is not None:
        found.add_(bias)
    return found if soft_cap is None else soft_capped(found, soft_cap)


def _sizes(features: Tensor, tokens: int) -> tuple[int, int]:
    """Rows in one matrix product, and in one pass of the loss."""
    if not features.is_cuda:
        return max(_GROUP, _BLOCK) // tokens, _BLOCK // tokens
    return _GROUP_CUDA // tokens, (_GROUP_CUDA if compiles() else _BLOCK_CUDA) // tokens


class _Map:
    """An output map's products, in the precision that the model runs in, some tokens at a time."""

    def __init__(self, predictions: Predictions, ids: TokenIds) -> None:
        device = predictions.features.device.type
        amp = torch.is_autocast_enabled(device)
        self._dtype = torch.get_autocast_dtype(device) if amp else torch.float32
        self._features = predictions.features.detach().to(self._dtype)
        self._weight, self._size = predictions.weight.detach(), len(ids)
        self.columns = ids.columns(self._weight.device)
        bias = predictions.bias
        self.bias = None if bias is None else bias.detach()[self.columns]
        self.soft_cap = predictions.soft_cap
        self._step = _TOKENS if device == "cpu" else _TOKENS_CUDA

    def logits(self, rows: slice) -> Float[Tensor, "rows vocabulary"]:
        """Logits of some rows without the bias, which is added in float32."""
        features = self._features[rows]
        found = features.new_empty(len(features), self._size)
        for part, _, weight in self._parts():
            torch.matmul(features, weight.mT, out=found[:, part])
        return found

    def add_gradients(
        self, slopes: Tensor, rows: slice, of_features: Tensor, of_weight: Tensor
    ) -> None:
        """Add the gradients that follow from the gradients by the logits of some rows."""
        features = self._features[rows]
        for part, ids, weight in self._parts():
            of_features[rows] += slopes[:, part] @ weight
            of_weight[ids] += slopes[:, part].mT @ features

    def _parts(self) -> Iterator[tuple[slice, slice | Tensor, Tensor]]:
        """Some columns at a time, the ids that they stand for, and the rows of the map."""
        for part in _slices(self._size, self._step):
            # Rows that are not tokens are skipped here, so that no second map is held.
            ids = part if isinstance(self.columns, slice) else self.columns[part]
            yield part, ids, self._weight[ids].to(self._dtype)


class _Known:
    """Stored logits of selected tokens, some rows at a time."""

    bias = soft_cap = None

    def __init__(self, selected: Selected, ids: TokenIds) -> None:
        self._selected, self._ids = selected, ids

    def logits(self, rows: slice) -> Float[Tensor, "rows vocabulary"]:
        return self._selected.logits(rows, self._ids)


def _even_slices(length: int, most: int) -> Iterator[slice]:
    """As few slices as possible, equal in size: small products are inefficient."""
    number = -(-length // max(1, most))
    return _slices(length, -(-length // max(1, number)))


def _slices(length: int, step: int) -> Iterator[slice]:
    step = max(1, step)
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
