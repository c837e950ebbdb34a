"""What one model computed on a batch, and only what was asked for.

An objective declares what it needs; the union of all needs is captured by
hooks on exactly those modules, and the forward ends as soon as the last tensor
asked for is there: deeper layers and the vocabulary head cost nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from .architectures import Anatomy, submodule
from .batch import Tokens
from .errors import ModelError

Layers = frozenset[int]
Name = tuple[str, int]  # (kind, layer)
# Logits of some rows -> logits over other pieces, and what makes of a gradient by those the
# gradient by the ones given.
Merge = Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]]
OutputMap = tuple[Tensor, Tensor | None]  # weight, a row a piece, and bias
_NONE: Layers = frozenset()
_PREDICTIONS: Name = ("predictions", 0)
_EMBEDDINGS: Name = ("embeddings", 0)


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
    """What is known of distributions of which some pieces alone were kept.

    Attributes:
        pieces: Which; a piece may stand more than once.
        logs: Their log-probabilities.
        rest: Log of what all other pieces have together, who share it alike.
    """

    pieces: Int[Tensor, "predicted kept"]
    logs: Float[Tensor, "predicted kept"]
    rest: Float[Tensor, " predicted"]

    def logits(self, rows: slice, pieces: int) -> Float[Tensor, "rows pieces"]:
        """Log-probabilities of all pieces, float32."""
        others = max(1, pieces - self.pieces.shape[1])
        found = (self.rest[rows].float() - math.log(others))[:, None].repeat(1, pieces)
        return found.scatter_(-1, self.pieces[rows].long(), self.logs[rows].float())


@dataclass(frozen=True)
class Predictions:
    """Vocabulary logits at the predicted positions, not yet multiplied out.

    A matrix of all positions and all pieces is the largest tensor of a step;
    objectives make it a few rows at a time.

    Attributes:
        features: What enters the linear map to the vocabulary, in the order of
            ``tensor[tokens.predicted]``.
        weight: Of that map; a row a piece.
        bias: Likewise; None where the family has none.
        merge: What makes logits over other pieces of those of the map; None leaves them.
        selected: What is known instead, where features and map were not kept: they are
            empty.
    """

    features: Float[Tensor, "predicted width"]
    weight: Float[Tensor, "vocabulary width"]
    bias: Float[Tensor, " vocabulary"] | None
    merge: Merge | None = None
    selected: Selected | None = None

    def logits(self) -> Float[Tensor, "predicted pieces"]:
        """All of them at once."""
        logits = linear(self.features, self.weight, self.bias)
        return logits if self.merge is None else self.merge(logits)[0]


@dataclass(frozen=True)
class Activations:
    """The captured tensors, by layer.

    Attributes:
        predictions: At the predicted positions only.
        embeddings: What enters the first layer.
        hidden: Output of a layer.
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


class _Complete(Exception):  # noqa: N818 - not an error: the forward has given all that was asked
    """Leaves a forward that has nothing more to give."""


def capture(model: PreTrainedModel, anatomy: Anatomy, tokens: Tokens, needs: Needs) -> Activations:
    """The activations that ``needs`` names, with their gradients where the model has them.

    Raises:
        ModelError: The model has no vocabulary head though logits are asked
            for, has no such layer, or never computed what was asked for.
    """
    if not needs.anything:
        return Activations()
    found = capture_tensors(model, anatomy, tokens, needs.tensors())
    return as_activations(found, output_map(model, anatomy) if needs.predictions else None)


def capture_tensors(
    model: PreTrainedModel, anatomy: Anatomy, tokens: Tokens, wanted: set[Name]
) -> dict[Name, Tensor]:
    """The tensors of those names; of predictions, the features alone.

    Beside the kinds of `Needs` there is ``entered``: what queries, keys and values are made of.

    Raises:
        ModelError: As `capture`.
    """
    head, output = _vocabulary_head(model, anatomy) if _PREDICTIONS in wanted else ([], None)
    hooked = wanted - {_PREDICTIONS}
    found: dict[Name, Tensor] = {}
    body = model.base_model
    handles = _hook(body, anatomy, hooked, found, stop=not head)
    try:
        arguments: dict[str, Any] = {"use_cache": False} if anatomy.causal else {}
        # Without a mask transformers keeps apart what positions that begin anew say are documents.
        apart = tokens.positions is not None
        arguments |= {"position_ids": tokens.positions} if apart else {}
        mask = None if apart else tokens.mask
        states = body(input_ids=tokens.input_ids, attention_mask=mask, **arguments)
    except _Complete:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if output is not None:
        rows = states.last_hidden_state[tokens.predicted]
        found[_PREDICTIONS] = _features(head, output, rows)
    if missing := wanted - found.keys():
        raise ModelError(f"the forward never computed {sorted(missing)}; correct the anatomy")
    return found


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


def output_map(model: PreTrainedModel, anatomy: Anatomy) -> OutputMap:
    """The last linear map to the vocabulary.

    Raises:
        ModelError: The model has no vocabulary head.
    """
    _, output = _vocabulary_head(model, anatomy)
    return output.weight, output.bias


def _vocabulary_head(model: PreTrainedModel, anatomy: Anatomy) -> tuple[list[nn.Module], nn.Linear]:
    """The modules that turn last hidden states into logits, in turn, and the last linear map."""
    children = dict(model.named_children())
    if not anatomy.head or any(name.split(".")[0] not in children for name in anatomy.head):
        raise ModelError(
            f"{type(model).__name__} has no vocabulary head, which labels and output"
            " distributions need; train one with a stage that has no teacher and the"
            " objective `labels` (recipes/minilm_head.yaml is one)"
        )
    output = submodule(model, anatomy.output or anatomy.head[-1])
    if not isinstance(output, nn.Linear):
        raise ModelError(
            f"the anatomy's output {anatomy.output or anatomy.head[-1]!r} is"
            f" {type(output).__name__}, not the linear map to the vocabulary; give its path"
        )
    return [submodule(model, path) for path in anatomy.head], output


def _features(head: Sequence[nn.Module], output: nn.Linear, rows: Tensor) -> Tensor:
    """What the head gives to its last linear map, which is not run."""
    entered: list[Tensor] = []

    def hook(module: nn.Module, arguments: Any) -> None:
        entered.append(arguments[0])
        raise _Complete

    handle = output.register_forward_pre_hook(hook)
    try:
        for part in head:
            rows = part(rows)
    except _Complete:
        pass
    finally:
        handle.remove()
    return entered[0]


def _hook(
    body: nn.Module,
    anatomy: Anatomy,
    wanted: set[Name],
    found: dict[Name, Tensor],
    *,
    stop: bool,
) -> list[RemovableHandle]:
    layers = list(submodule(body, anatomy.layers).children())

    def take(names: Sequence[Name], parts: Sequence[Tensor]) -> None:
        found.update((n, p) for n, p in zip(names, parts, strict=True) if n in wanted)
        if stop and found.keys() >= wanted:
            raise _Complete

    def keep(names: Sequence[Name], split: bool) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            take(names, tensor.chunk(3, dim=-1) if split else (tensor,))

        return hook

    def before(names: Sequence[Name]) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any) -> None:
            take(names, (arguments[0],))

        return hook

    def enter(module: nn.Module, arguments: Any, named: Any) -> None:
        take([_EMBEDDINGS], [arguments[0] if arguments else named["hidden_states"]])

    handles = []
    if _EMBEDDINGS in wanted:
        handles.append(layers[0].register_forward_pre_hook(enter, with_kwargs=True))
    for layer in sorted({layer for name, layer in wanted - {_EMBEDDINGS}}):
        if not 0 <= layer < len(layers):
            raise ModelError(
                f"layer {layer} was asked for, but there are {len(layers)} layers: 0 to"
                f" {len(layers) - 1} (the embedding output is not counted)"
            )
        here = layers[layer]
        if anatomy.fused:
            places = {anatomy.query: ["queries", "keys", "values"]}
        else:
            places = {
                anatomy.query: ["queries"],
                anatomy.key: ["keys"],
                anatomy.value: ["values"],
            }
        for path, kinds in places.items():
            names = [(kind, layer) for kind in kinds]
            if wanted.intersection(names):
                hook = keep(names, split=anatomy.fused)
                handles.append(submodule(here, path).register_forward_hook(hook))
        if (entered := ("entered", layer)) in wanted:
            hook_in = before([entered])
            handles.append(submodule(here, anatomy.query).register_forward_pre_hook(hook_in))
        if ("hidden", layer) in wanted:
            handles.append(here.register_forward_hook(keep([("hidden", layer)], split=False)))
    return handles


def float32_region(tensor: Tensor) -> torch.autocast:
    """A context in which autocast is off on the tensor's device: losses are float32."""
    return torch.autocast(tensor.device.type, enabled=False)
