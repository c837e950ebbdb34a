"""The activations of one model on a batch, limited to those that objectives need.

An objective declares its needs and reads the captured tensors by kind and layer.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

from .token_ids import TokenIds

Layers = frozenset[int]
Name = tuple[str, int]  # (kind, layer)
# Maps the logits of some rows to logits over other tokens, and returns a second function that maps
# a gradient with respect to the new logits to the gradient with respect to the given ones.
Merge = Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]]


class OutputMap(NamedTuple):
    """The map from features to the logits of a vocabulary.

    Attributes:
        weight: One row for each token.
        bias: One number for each token; None where the family has none.
        soft_cap: The bound of the logits, which become bound * tanh(logits / bound); None where
            there is none.
    """

    weight: Float[Tensor, "vocabulary width"]
    bias: Float[Tensor, " vocabulary"] | None = None
    soft_cap: float | None = None


PREDICTIONS: Name = ("predictions", 0)
EMBEDDINGS: Name = ("embeddings", 0)
CLASS_LOGITS: Name = ("class_logits", 0)
SENTENCE_VECTORS: Name = ("sentence_vectors", 0)
_NONE: Layers = frozenset()


@dataclass(frozen=True)
class Needs:
    """Which activations of one model an objective needs.

    Layers count from 0 and never include the embedding output. Likelihoods of spans of text are
    computed from predictions where two vocabularies are aligned.

    >>> both = Needs(hidden=frozenset({1})) | Needs(hidden=frozenset({2}), predictions=True)
    >>> sorted(both.hidden), both.predictions
    ([1, 2], True)
    """

    predictions: bool = False
    embeddings: bool = False
    hidden: Layers = _NONE
    queries: Layers = _NONE
    keys: Layers = _NONE
    values: Layers = _NONE
    likelihoods: bool = False
    class_logits: bool = False
    sentence_vectors: bool = False

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(
            self.predictions or other.predictions,
            self.embeddings or other.embeddings,
            self.hidden | other.hidden,
            self.queries | other.queries,
            self.keys | other.keys,
            self.values | other.values,
            self.likelihoods or other.likelihoods,
            self.class_logits or other.class_logits,
            self.sentence_vectors or other.sentence_vectors,
        )

    @property
    def anything(self) -> bool:
        """Whether the model has to run at all."""
        return self != Needs()

    @property
    def of_tokens(self) -> bool:
        """Whether anything is read of tokens, beside the classes and vectors of whole texts."""
        return replace(self, class_logits=False, sentence_vectors=False).anything

    def tensors(self) -> set[Name]:
        """Every needed tensor as (kind, layer); kinds without layers have layer 0."""
        kinds = {
            "predictions": {0} if self.predictions else _NONE,
            "class_logits": {0} if self.class_logits else _NONE,
            "sentence_vectors": {0} if self.sentence_vectors else _NONE,
            "embeddings": {0} if self.embeddings else _NONE,
            "hidden": self.hidden,
            "queries": self.queries,
            "keys": self.keys,
            "values": self.values,
        }
        return {(kind, layer) for kind, layers in kinds.items() for layer in layers}


@dataclass(frozen=True)
class Selected:
    """Distributions of which only the probabilities of some tokens were stored.

    Attributes:
        tokens: The ids of the stored tokens; an id may occur more than once.
        logs: Their log-probabilities.
        rest: Log of the total probability of all other tokens, which is divided equally among
            them.
    """

    tokens: Int[Tensor, "predicted kept"]
    logs: Float[Tensor, "predicted kept"]
    rest: Float[Tensor, " predicted"]

    def logits(self, rows: slice, ids: TokenIds | int) -> Float[Tensor, "rows vocabulary"]:
        """Log-probabilities of all tokens, float32."""
        ids = TokenIds.given(ids)
        others = max(1, len(ids) - self.tokens.shape[1])
        found = (self.rest[rows].float() - math.log(others))[:, None].repeat(1, len(ids))
        places = ids.columns_of(self.tokens[rows].long())
        return found.scatter_(-1, places, self.logs[rows].float())


def log_rest(
    logits: Float[Tensor, "rows vocabulary"], places: Int[Tensor, "rows some"]
) -> Float[Tensor, "rows 1"]:
    """Log of the sum of exponentials of all entries but the listed ones.

    One minus the probability of the listed ones would consist of rounding errors where little
    probability remains.

    Args:
        logits: Log-probabilities, up to a constant.
        places: Columns that are left out.
    """
    return logits.scatter(-1, places, -math.inf).logsumexp(-1, keepdim=True)


@dataclass(frozen=True)
class Predictions:
    """Vocabulary logits at the predicted positions, stored as features and a linear map.

    The matrix of all positions and all tokens would be the largest tensor of a step; objectives
    compute a few of its rows at a time.

    Attributes:
        features: Inputs of the linear map to the vocabulary, in the order of
            ``tensor[tokens.predicted]``.
        weight: Weight of that map, one row for each token.
        bias: Bias of that map; None where the family has none.
        soft_cap: The bound of the logits, as in `OutputMap`.
        merge: Maps the logits to logits over other tokens; None leaves them unchanged.
        selected: The stored probabilities, where features and map were not stored; those are
            then empty.
    """

    features: Float[Tensor, "predicted width"]
    weight: Float[Tensor, "vocabulary width"]
    bias: Float[Tensor, " vocabulary"] | None
    soft_cap: float | None = None
    merge: Merge | None = None
    selected: Selected | None = None

    def logits(self) -> Float[Tensor, "predicted vocabulary"]:
        """All logits at once; log-probabilities where only those were stored."""
        if self.selected is not None:
            return self.selected.logits(slice(None), len(self.weight))
        kind = self.features.dtype  # the map may be stored in a lower precision
        bias = None if self.bias is None else self.bias.to(kind)
        logits = linear(self.features, self.weight.to(kind), bias)
        if self.soft_cap is not None:
            logits = soft_capped(logits, self.soft_cap)
        return logits if self.merge is None else self.merge(logits)[0]


@dataclass(frozen=True)
class Activations:
    """The captured tensors, by layer.

    Attributes:
        predictions: Vocabulary logits, at the predicted positions only.
        embeddings: The input of the first layer.
        hidden: Output of each layer; that of the last layer before any norm that follows it.
        queries: Projected queries of each layer, attention heads joined, before any rotation for
            positions.
        keys: Projected keys, in the same form.
        values: Projected values, in the same form.
        likelihoods: Log-likelihoods of the spans of text that two vocabularies share, in nats.
        class_logits: What the head of a classifier, tagger or scoring model says at the predicted
            tokens: one row for each text, or for each word.
        sentence_vectors: One vector for each row of the batch.
    """

    predictions: Predictions | None = None
    embeddings: Float[Tensor, "batch tokens hidden"] | None = None
    hidden: dict[int, Float[Tensor, "batch tokens hidden"]] = field(default_factory=dict)
    queries: dict[int, Float[Tensor, "batch tokens width"]] = field(default_factory=dict)
    keys: dict[int, Float[Tensor, "batch tokens key_width"]] = field(default_factory=dict)
    values: dict[int, Float[Tensor, "batch tokens key_width"]] = field(default_factory=dict)
    likelihoods: Float[Tensor, " spans"] | None = None
    class_logits: Float[Tensor, "predicted classes"] | None = None
    sentence_vectors: Float[Tensor, "batch vector"] | None = None


def as_activations(found: Mapping[Name, Tensor], output: OutputMap | None) -> Activations:
    """Captured tensors in the form that objectives read; predictions need ``output``."""
    by_kind: dict[str, dict[int, Tensor]] = {}
    for (kind, layer), tensor in found.items():
        by_kind.setdefault(kind, {})[layer] = tensor
    features = by_kind.pop("predictions", {}).get(0)
    embeddings = by_kind.pop("embeddings", {}).get(0)
    class_logits = by_kind.pop("class_logits", {}).get(0)
    sentence_vectors = by_kind.pop("sentence_vectors", {}).get(0)
    predictions = None
    if features is not None and output is not None:
        predictions = Predictions(features, *output)
    hidden, queries, keys, values = (
        by_kind.get(kind, {}) for kind in ("hidden", "queries", "keys", "values")
    )
    return Activations(
        predictions,
        embeddings,
        hidden,
        queries,
        keys,
        values,
        class_logits=class_logits,
        sentence_vectors=sentence_vectors,
    )


def soft_capped(logits: Tensor, bound: float) -> Tensor:
    """Logits within a bound, as Gemma 2 has them."""
    return bound * torch.tanh(logits / bound)


def float32_region(tensor: Tensor) -> torch.autocast:
    """A context without autocast on the tensor's device, so that losses are float32."""
    return torch.autocast(tensor.device.type, enabled=False)
