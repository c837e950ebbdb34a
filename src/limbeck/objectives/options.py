"""The options of every objective, separate so that checking a recipe does not import torch.

Each objective derives from its options, and adds what it takes from two models when it is bound.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import Problem
from ..system.numbers import Number, Whole
from .class_options import ClassLabelsOptions, ClassLogitsOptions, MarginMseOptions
from .layer_mapping import LayerMap, map_problems
from .layer_names import LayerName, layer_name_problems
from .measures import divergence_problems
from .schedule import NumberOrRamp, temperature_problems
from .sentence_options import SentenceSimilaritiesOptions, SentenceVectorsOptions

Combine = Literal["concatenate", "mean", "each"]
Measure = Literal["mse", "cosine"]
_COMPARED = 64


def _count_problems(field: str, count: int | None) -> list[Problem]:
    if count is None or count >= 1:
        return []
    return [(field, f"is {count}; give 1 or more")]


@dataclass(frozen=True)
class LabelsOptions:
    """Cross-entropy against the original token, summed over the predicted positions."""

    def problems(self) -> list[Problem]:
        """None: it has no options."""
        return []


@dataclass(frozen=True)
class LogitsOptions:
    """Divergence of output distributions, summed over the predicted positions.

    Attributes:
        divergence: The measure; ``limbeck list divergences`` names all.
        divergence_options: Its options, as {alpha: 0.1}.
        temperature: Both models' logits are divided by it, and the divergence is
            multiplied by its square so that gradients keep their size; a number, or
            a ramp over the stage as {start: 4, end: 1}.
        signal: ``dense`` compares all tokens; ``top_k`` the teacher's most likely tokens, and
            all others as one; ``sampled`` tokens drawn from the teacher, with which the
            gradient of the forward KL is right on average.
        top_k: How many tokens are compared where the signal is top_k; 64 by default.
        num_samples: How many tokens are drawn where the signal is sampled; 64 by default.
    """

    divergence: str = "forward_kl"
    divergence_options: Mapping[str, Number] = field(default_factory=dict)
    temperature: NumberOrRamp = 1.0
    signal: Literal["dense", "top_k", "sampled"] = "dense"
    top_k: Whole | None = None
    num_samples: Whole | None = None

    @property
    def compared(self) -> int:
        """How many tokens are compared where the signal is not dense."""
        return (self.num_samples if self.signal == "sampled" else self.top_k) or _COMPARED

    def problems(self) -> list[Problem]:
        """Measures, options, temperatures and numbers that are impossible for any two models."""
        found = divergence_problems(self.divergence, self.divergence_options)
        found += temperature_problems(self.temperature)
        for name, count, signal in (
            ("top_k", self.top_k, "top_k"),
            ("num_samples", self.num_samples, "sampled"),
        ):
            found += _count_problems(name, count)
            if count is not None and signal != self.signal:
                message = (
                    f"is for `signal: {signal}`, and the signal is {self.signal}; leave it out"
                )
                found.append((name, message))
        if self.signal == "sampled" and self.divergence != "forward_kl":
            found.append(
                ("signal", f"is sampled, which is unbiased for forward_kl, not {self.divergence}")
            )
        return found


@dataclass(frozen=True)
class UldOptions:
    """Absolute differences of sorted probabilities, summed over the predicted positions.

    Attributes:
        top_k: Only this many of the largest probabilities are compared; None compares
            all, which means sorting them.
    """

    top_k: Whole | None = 1000

    def problems(self) -> list[Problem]:
        """Fewer than one token."""
        return _count_problems("top_k", self.top_k)


@dataclass(frozen=True)
class SpanLikelihoodOptions:
    """Divergence of the likelihoods of text spans, summed over spans.

    Attributes:
        temperature: Log-likelihoods are divided by it, because otherwise all long spans
            would look impossible; the divergence is multiplied by it.
    """

    temperature: Number = 10.0

    def problems(self) -> list[Problem]:
        """A temperature that leaves nothing to compare."""
        return temperature_problems(self.temperature)


@dataclass(frozen=True)
class HiddenStatesOptions:
    """Distance of hidden states, summed over real tokens and layer pairs.

    A hidden state is the output of a layer. For the last layer of decoders and of ModernBERT this
    is the state before the final norm.

    Attributes:
        layers: Which teacher layers each student layer learns from; ``limbeck list
            layer-maps`` names the maps, and "0:1,2:5" gives explicit pairs.
        combine: How several teacher layers of one student layer are compared: concatenated, as
            their mean, or each on its own; by default concatenated with ``uniform+top``
            and as their mean with all other maps.
        measure: ``mse``, or ``cosine`` for one minus the cosine.
        projection: A learned map for each pair, or one shared by all; there is no map
            where the widths are equal.
    """

    layers: LayerMap = "last"
    combine: Combine | None = None
    measure: Measure = "mse"
    projection: Literal["per_pair", "shared"] = "per_pair"

    def problems(self) -> list[Problem]:
        """A layer map that is impossible for any two models."""
        return map_problems(self.layers)


@dataclass(frozen=True)
class MeanHiddenStatesOptions:
    """Distance of the means over layers and embedding output, summed over real tokens.

    Attributes:
        measure: ``mse``, or ``cosine`` for one minus the cosine.
        trainable: False keeps the random initialization of the map to the teacher's width.
    """

    measure: Measure = "mse"
    trainable: bool = True

    def problems(self) -> list[Problem]:
        """None: every value of the options is possible."""
        return []


@dataclass(frozen=True)
class EmbeddingsOptions:
    """Distance of the embedding outputs, summed over real tokens.

    Attributes:
        measure: ``mse``, or ``cosine`` for one minus the cosine.
    """

    measure: Measure = "mse"

    def problems(self) -> list[Problem]:
        """None: every value of the options is possible."""
        return []


@dataclass(frozen=True)
class AttentionScoresOptions:
    """Squared difference of attention scores, summed over real tokens and layer pairs.

    Attributes:
        layers: As for ``hidden_states``; with several teacher layers for one student
            layer each is compared on its own.
        heads: Heads that queries and keys are split into; by default those of the
            models, or the largest number that divides both where they differ.
        causal: Whether scores to later tokens are left out; by default where one of the
            models is a decoder.
    """

    layers: LayerMap = "uniform"
    heads: Whole | None = None
    causal: bool | None = None

    def problems(self) -> list[Problem]:
        """A layer map that is impossible for any two models, or no heads."""
        return map_problems(self.layers) + _count_problems("heads", self.heads)


@dataclass(frozen=True)
class RelationsOptions:
    """Divergence of relations between tokens, summed over real tokens.

    Attributes:
        teacher_layer: A number, ``last`` or ``last-1``; for large teachers one
            or two below the last is often better.
        student_layer: A number, ``last`` or ``last-1``. The attention output and the
            feed-forward of this layer get no gradient, so in the last layer they keep
            their initialization.
        pairs: Weight of each relation; any pair of Q, K and V.
        heads: Relation heads that both models' vectors are split into; by default
            the largest number up to 48 (64 for teachers of a width of 1024 or more)
            that divides every width. Where a pair compares queries with keys, it is the
            attention heads of the models, or the largest number that divides both,
            because queries and keys are attention only within a head.
        causal: Whether a token is related only to itself and to earlier tokens; by
            default where one of the models is a decoder.
    """

    teacher_layer: LayerName = "last"
    student_layer: LayerName = "last"
    pairs: Mapping[str, Number] = field(default_factory=lambda: {"QQ": 1.0, "KK": 1.0, "VV": 1.0})
    heads: Whole | None = None
    causal: bool | None = None

    def problems(self) -> list[Problem]:
        """Layers that no model has, no heads, or missing, unknown or weightless pairs."""
        found = layer_name_problems("teacher_layer", self.teacher_layer)
        found += layer_name_problems("student_layer", self.student_layer)
        found += _count_problems("heads", self.heads)
        if not self.pairs:
            found.append(("pairs", "is empty; name at least one, as {VV: 1.0}"))
        for pair, weight in self.pairs.items():
            if len(pair) != 2 or not set(pair) <= set("QKV"):
                found.append((f"pairs.{pair}", "is no pair of Q, K and V, as QQ, KK, VV or QK"))
            if not 0 < weight < math.inf:
                message = f"weighs {weight}; leave it out, or give it a finite weight above 0"
                found.append((f"pairs.{pair}", message))
        return found


@dataclass(frozen=True)
class QkvOptions:
    """Squared difference of queries, keys and values, summed over real tokens.

    Attributes:
        teacher_layer: A number, ``last`` or ``last-1``.
        student_layer: A number, ``last`` or ``last-1``.
        heads: Slices of the vectors, each with its own map; by default the
            largest number up to 48 that divides every width.
        measure: ``mse``, or ``cosine`` for one minus the cosine.
    """

    teacher_layer: LayerName = "last"
    student_layer: LayerName = "last"
    heads: Whole | None = None
    measure: Measure = "mse"

    def problems(self) -> list[Problem]:
        """Layers that no model has, or no heads."""
        found = layer_name_problems("teacher_layer", self.teacher_layer)
        found += layer_name_problems("student_layer", self.student_layer)
        return found + _count_problems("heads", self.heads)


OPTIONS: dict[str, type] = {
    "labels": LabelsOptions,
    "logits": LogitsOptions,
    "uld": UldOptions,
    "span_likelihood": SpanLikelihoodOptions,
    "hidden_states": HiddenStatesOptions,
    "mean_hidden_states": MeanHiddenStatesOptions,
    "embeddings": EmbeddingsOptions,
    "attention_scores": AttentionScoresOptions,
    "relations": RelationsOptions,
    "qkv": QkvOptions,
    "class_logits": ClassLogitsOptions,
    "class_labels": ClassLabelsOptions,
    "margin_mse": MarginMseOptions,
    "sentence_vectors": SentenceVectorsOptions,
    "sentence_similarities": SentenceSimilaritiesOptions,
}
