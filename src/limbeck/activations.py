"""What one model computed on a batch, and only what was asked for.

An objective declares what it needs of a model, and reads what came by kind and layer.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

from .token_ids import TokenIds

Layers = frozenset[int]
Name = tuple[str, int]  # (kind, layer)
# Logits of some rows -> logits over other tokens, and what makes of a gradient by those the
# gradient by the ones given.
Merge = Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]]
OutputMap = tuple[Tensor, Tensor | None]  # weight, a row a token, and bias
PREDICTIONS: Name = ("predictions", 0)
EMBEDDINGS: Name = ("embeddings", 0)
_NONE: Layers = frozenset()


@dataclass(frozen=True)
class Needs:
    """Which activations an objective asks of one model.

    Layers count from 0 and never include the embedding output. Likelihoods of stretches of
    text are made of predictions where two vocabularies are aligned.

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

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(
            self.predictions or other.predictions,
            self.embeddings or other.embeddings,
            self.hidden | other.hidden,
            self.queries | other.queries,
            self.keys | other.keys,
            self.values | other.values,
            self.likelihoods or other.likelihoods,
        )

    @property
    def anything(self) -> bool:
        """Whether the model has to run at all."""
        return self != Needs()

    def tensors(self) -> set[Name]:
        """Every tensor asked for, as (kind, layer); kinds without layers stand at 0."""
        kinds = {
            "predictions": {0} if self.predictions else _NONE,
            "embeddings": {0} if self.embeddings else _NONE,
            "hidden": self.hidden,
            "queries": self.queries,
            "keys": self.keys,
            "values": self.values,
        }
        return {(kind, layer) for kind, layers in kinds.items() for layer in layers}


@dataclass(frozen=True)
class Selected:
    """What is known of distributions of which some tokens alone were kept.

    Attributes:
        tokens: Which; a token may stand more than once.
        logs: Their log-probabilities.
        rest: Log of what all other tokens have together, who share it alike.
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
    """Log of the sum of exponentials of all but some.

    One minus the sum of these would be made of rounding errors where little is left.

    Args:
        logits: Log-probabilities, or such that differ by a constant.
        places: Which are left out.
    """
    return logits.scatter(-1, places, -math.inf).logsumexp(-1, keepdim=True)


@dataclass(frozen=True)
class Predictions:
    """Vocabulary logits at the predicted positions, not yet multiplied out.

    A matrix of all positions and all tokens is the largest tensor of a step;
    objectives make it a few rows at a time.

    Attributes:
        features: What enters the linear map to the vocabulary, in the order of
            ``tensor[tokens.predicted]``.
        weight: Of that map; a row a token.
        bias: Likewise; None where the family has none.
        merge: What makes logits over other tokens of those of the map; None leaves them.
        selected: What is known instead, where features and map were not kept: they are
            empty.
    """

    features: Float[Tensor, "predicted width"]
    weight: Float[Tensor, "vocabulary width"]
    bias: Float[Tensor, " vocabulary"] | None
    merge: Merge | None = None
    selected: Selected | None = None

    def logits(self) -> Float[Tensor, "predicted vocabulary"]:
        """All of them at once; log-probabilities where no more is known."""
        if self.selected is not None:
            return self.selected.logits(slice(None), len(self.weight))
        kind = self.features.dtype  # the map may be kept in less
        bias = None if self.bias is None else self.bias.to(kind)
        logits = linear(self.features, self.weight.to(kind), bias)
        return logits if self.merge is None else self.merge(logits)[0]


@dataclass(frozen=True)
class Activations:
    """The captured tensors, by layer.

    Attributes:
        predictions: At the predicted positions only.
        embeddings: What enters the first layer.
        hidden: Output of a layer; of the last one, before any norm that follows it.
        queries: Projected queries of a layer, attention heads joined, before
            any rotation for positions; keys and values likewise.
        likelihoods: Of the stretches of text that two vocabularies share, in nats.
    """

    predictions: Predictions | None = None
    embeddings: Float[Tensor, "batch tokens hidden"] | None = None
    hidden: dict[int, Float[Tensor, "batch tokens hidden"]] = field(default_factory=dict)
    queries: dict[int, Float[Tensor, "batch tokens width"]] = field(default_factory=dict)
    keys: dict[int, Float[Tensor, "batch tokens key_width"]] = field(default_factory=dict)
    values: dict[int, Float[Tensor, "batch tokens key_width"]] = field(default_factory=dict)
    likelihoods: Float[Tensor, " stretches"] | None = None


def as_activations(found: Mapping[Name, Tensor], output: OutputMap | None) -> Activations:
    """Tensors by name, as objectives read them; predictions need the map to the vocabulary."""
    by_kind: dict[str, dict[int, Tensor]] = {}
    for (kind, layer), tensor in found.items():
        by_kind.setdefault(kind, {})[layer] = tensor
    features = by_kind.pop("predictions", {}).get(0)
    embeddings = by_kind.pop("embeddings", {}).get(0)
    predictions = None
    if features is not None and output is not None:
        predictions = Predictions(features, *output)
    hidden, queries, keys, values = (
        by_kind.get(kind, {}) for kind in ("hidden", "queries", "keys", "values")
    )
    return Activations(predictions, embeddings, hidden, queries, keys, values)


def float32_region(tensor: Tensor) -> torch.autocast:
    """A context in which autocast is off on the tensor's device: losses are float32."""
    return torch.autocast(tensor.device.type, enabled=False)
