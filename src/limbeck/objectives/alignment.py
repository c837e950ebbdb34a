"""Activations of two vocabularies made comparable: tokens are pooled to groups of the same text.

The result has one row for each group, for student and teacher alike, so that every objective
that compares token by token can compare groups. Output maps are reduced to the tokens that both
vocabularies have, or the student's map is turned into one over the teacher's tokens.

Source: match and reduce, Kolesnikova et al. 2022, arXiv:2205.02340.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from ..activations import Activations, Predictions
from ..batch import Links, Tokens, places_of
from ..token_ids import TokenIds
from .labels import label_log_likelihoods

Pool = Literal["sum", "mean"]
_LEAST = 1e-30  # of a sum of exponentials below the largest logit


class Alignment(nn.Module):
    """How the vectors and predictions of both models are brought to the same rows.

    Args:
        pool: How the vectors of a group's tokens are combined.
        student_columns: The student's tokens that are compared, one for each teacher column;
            or, with ``owner``, the parts of each teacher column in order; None is all.
        teacher_columns: The teacher's tokens that are compared; None is all.
        owner: Which teacher column each part belongs to; None compares shared tokens.
        summed_over: Rows of the student's output map, where the logits of a token's parts are
            combined by log-sum-exp; None pools them in the same way as vectors.
        likelihoods: Whether the log-likelihoods of groups are needed; decoders have them.
        student_ids: Rows of the student's output map that are tokens; None is all.
        teacher_ids: Rows of the teacher's output map that are tokens; None is all.
    """

    student_columns: Tensor | None
    teacher_columns: Tensor | None
    starts: Tensor | None
    summed: Tensor | None

    def __init__(
        self,
        pool: Pool,
        student_columns: Int[Tensor, " parts"] | None,
        teacher_columns: Int[Tensor, " columns"] | None,
        *,
        owner: Int[Tensor, " parts"] | None = None,
        summed_over: int | None = None,
        likelihoods: bool = False,
        student_ids: TokenIds | None = None,
        teacher_ids: TokenIds | None = None,
    ) -> None:
        super().__init__()
        self.likelihoods = likelihoods
        self.student_ids, self.teacher_ids = student_ids, teacher_ids
        self.pool = pool
        self.register_buffer("student_columns", student_columns, persistent=False)
        self.register_buffer("teacher_columns", teacher_columns, persistent=False)
        starts = summed = None
        if owner is not None and student_columns is not None:
            columns = int(owner.max()) + 1
            starts = torch.searchsorted(owner, torch.arange(columns))
            if summed_over is not None:
                places, ones = torch.stack([owner, student_columns]), torch.ones(len(owner))
                size = (columns, summed_over)
                summed = torch.sparse_coo_tensor(places, ones, size, check_invariants=True)
                summed = summed.coalesce()
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("summed", summed, persistent=False)

    def student(self, found: Activations, links: Links, tokens: Tokens) -> Activations:
        """The student's activations, one row for each group; predictions at the linked tokens only.

        Args:
            found: The student's activations at its own tokens.
            links: Which student tokens and teacher tokens belong together.
            tokens: What the student read, with the positions of its predictions.
        """
        linked = _Linked(links.student, links.here.student)
        aligned = self._vectors(found, linked, links.groups)
        if found.predictions is None:
            return aligned
        following = _where_linked(links.student_next, links.here.student_next)
        ids = self.student_ids
        aligned = self._likely(aligned, found.predictions, following, links, tokens, ids)
        given = linked.of_predictions(found.predictions, tokens)
        features, counts = self._features(given.features, linked, links.groups)
        weight = self._student_map(given.weight)
        bias = None
        if given.bias is not None:
            bias = self._student_map(given.bias[:, None]).squeeze(1)
            if self.pool == "sum":
                # Logits of several tokens are added, and so are their biases.
                features = torch.cat([features, counts[:, None].to(features.dtype)], dim=1)
                weight = torch.cat([weight, bias[:, None].to(weight.dtype)], dim=1)
                bias = None
        merge = None if self.summed is None else partial(_log_sum_exp, self.summed)
        made = Predictions(features, weight, bias, given.soft_cap, merge)
        return replace(aligned, predictions=made)

    def teacher(self, found: Activations, links: Links, tokens: Tokens) -> Activations:
        """The teacher's activations; every group has exactly one linked teacher token."""
        linked = _Linked(links.teacher, links.here.teacher)
        aligned = self._vectors(found, linked, links.groups)
        if found.predictions is None:
            return aligned
        following = _where_linked(links.teacher_next, links.here.teacher_next)
        ids = self.teacher_ids
        aligned = self._likely(aligned, found.predictions, following, links, tokens, ids)
        given = linked.of_predictions(found.predictions, tokens)
        features, _ = self._features(given.features, linked, links.groups)
        weight, bias = given.weight, given.bias
        if self.teacher_columns is not None:
            weight = weight[self.teacher_columns]
            bias = None if bias is None else bias[self.teacher_columns]
        made = Predictions(features, weight, bias, given.soft_cap)
        return replace(aligned, predictions=made)

    def _vectors(self, found: Activations, linked: "_Linked", tokens: Tokens) -> Activations:
        def pooled(vectors: Tensor) -> Tensor:
            return _pooled(vectors, linked, tokens.mask.shape[1], mean=self.pool == "mean")

        def of_layers(tensors: Mapping[int, Tensor]) -> dict[int, Tensor]:
            return {layer: pooled(tensor) for layer, tensor in tensors.items()}

        return Activations(
            embeddings=None if found.embeddings is None else pooled(found.embeddings),
            hidden=of_layers(found.hidden),
            queries=of_layers(found.queries),
            keys=of_layers(found.keys),
            values=of_layers(found.values),
        )

    def _features(
        self, features: Tensor, linked: "_Linked", tokens: Tokens
    ) -> tuple[Float[Tensor, "groups width"], Int[Tensor, " groups"]]:
        """What enters the output map for every real group, and how many tokens the group has."""
        owner, total = linked.owners(tokens), int(tokens.here.mask.sum())
        return _summed(features, owner, total, mean=self.pool == "mean"), _counts(owner, total)

    def _likely(
        self,
        aligned: Activations,
        given: Predictions,
        following: "_Linked | None",
        links: Links,
        tokens: Tokens,
        ids: TokenIds | None,
    ) -> Activations:
        """Add the log-likelihood of every group: the sum over its tokens, predicted one by one."""
        if not self.likelihoods or following is None:
            return aligned
        linked, labels = following.of_predictions(given, tokens), following.of(tokens.labels)
        of_tokens = label_log_likelihoods(linked, labels, vocabulary=ids)
        owner, total = following.owners(links.groups), int(links.groups.here.mask.sum())
        return replace(aligned, likelihoods=_summed(of_tokens, owner, total))

    def _student_map(self, rows: Tensor) -> Tensor:
        if self.student_columns is None or self.summed is not None:
            return rows
        if self.starts is None:
            return rows[self.student_columns]
        return embedding_bag(self.student_columns, rows, self.starts, mode=self.pool)


class _Linked:
    """The tokens of one model that are in groups; which these are, is asked on the processor.

    Args:
        groups: The group of each token; -1 for no group.
        here: The same on the processor.
    """

    def __init__(self, groups: Tensor, here: Tensor) -> None:
        self.groups, self._here = groups, here

    def of(self, values: Shaped[Tensor, "batch tokens ..."]) -> Shaped[Tensor, "linked ..."]:
        """The values at these tokens."""
        return values.flatten(0, 1)[self._places]

    def of_predictions(self, given: Predictions, tokens: Tokens) -> Predictions:
        """The predictions at these tokens."""
        chosen = (self._here >= 0)[tokens.here.predicted]
        rows = places_of(chosen, given.features.device)
        return replace(given, features=given.features[rows])

    def owners(self, tokens: Tokens) -> Int[Tensor, " linked"]:
        """For every one of these tokens, the number of its group in the whole batch."""
        number = (tokens.mask.flatten().cumsum(0) - 1).view_as(tokens.mask)
        return self.of(number.gather(1, self.groups.clamp_min(0)))

    @cached_property
    def _places(self) -> Int[Tensor, " linked"]:
        return places_of(self._here >= 0, self.groups.device)


def _where_linked(groups: Tensor | None, here: Tensor | None) -> _Linked | None:
    return None if groups is None or here is None else _Linked(groups, here)


def _log_sum_exp(
    parts: Tensor, logits: Float[Tensor, "rows student_vocabulary"]
) -> tuple[Float[Tensor, "rows vocabulary"], Callable[[Tensor], Tensor]]:
    """Log-sum-exp over the parts of every token, and a function that takes gradients back."""
    largest = logits.amax(-1, keepdim=True)
    sizes = (logits - largest).exp_()
    sums = (parts @ sizes.mT).mT.clamp_min(_LEAST)

    def back(slope: Tensor) -> Tensor:
        pulled: Tensor = (parts.mT @ (slope / sums).mT).mT * sizes
        return pulled

    return sums.log() + largest, back


def _pooled(
    vectors: Float[Tensor, "batch tokens width"],
    linked: _Linked,
    most: int,
    *,
    mean: bool,
) -> Float[Tensor, "batch groups width"]:
    """The sum, or the mean, of the vectors of every group, with padding groups."""
    texts, _, width = vectors.shape
    owner = linked.of(linked.groups + most * torch.arange(texts, device=vectors.device)[:, None])
    found = _summed(linked.of(vectors), owner, texts * most, mean=mean)
    return found.reshape(texts, most, width)


def _summed(
    rows: Float[Tensor, "rows ..."],
    owner: Int[Tensor, " rows"],
    total: int,
    *,
    mean: bool = False,
) -> Float[Tensor, "owners ..."]:
    """The sum, or the mean, of the rows of every owner."""
    sums = rows.new_zeros(total, *rows.shape[1:]).index_add(0, owner, rows)
    if not mean:
        return sums
    counts = _counts(owner, total).clamp_min(1)
    return sums / counts[:, None].to(sums.dtype)


def _counts(owner: Int[Tensor, " rows"], total: int) -> Int[Tensor, " owners"]:
    """How many rows each owner has; `torch.bincount` would ask the device for the largest owner."""
    return owner.new_zeros(total).index_add(0, owner, torch.ones_like(owner))
