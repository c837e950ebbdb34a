"""What one model computed on a batch, and only what was asked for.

An objective declares what it needs; the union of all needs is captured by
hooks on exactly those modules, and the forward ends as soon as the last tensor
asked for is there: deeper layers and the vocabulary head cost nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from .architectures import Anatomy, submodule
from .batch import Tokens
from .errors import ModelError

Layers = frozenset[int]
_NONE: Layers = frozenset()


@dataclass(frozen=True)
class Needs:
    """Which activations an objective asks of one model.

    Layers count from 0 and never include the embedding output.

    >>> Needs(hidden=frozenset({1})) | Needs(hidden=frozenset({2}), logits=True)
    Needs(logits=True, hidden=frozenset({1, 2}), queries=frozenset(), keys=frozenset(), \
values=frozenset())
    """

    logits: bool = False
    hidden: Layers = _NONE
    queries: Layers = _NONE
    keys: Layers = _NONE
    values: Layers = _NONE

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(
            self.logits or other.logits,
            self.hidden | other.hidden,
            self.queries | other.queries,
            self.keys | other.keys,
            self.values | other.values,
        )

    @property
    def anything(self) -> bool:
        """Whether the model has to run at all."""
        return self != Needs()

    def tensors(self) -> set[tuple[str, int]]:
        """Every hooked tensor asked for, as (kind, layer); logits are not hooked."""
        kinds = {
            "hidden": self.hidden,
            "queries": self.queries,
            "keys": self.keys,
            "values": self.values,
        }
        return {(kind, layer) for kind, layers in kinds.items() for layer in layers}


@dataclass(frozen=True)
class Activations:
    """The captured tensors, by layer.

    Attributes:
        logits: Vocabulary logits at the predicted positions only, in the order
            of ``tensor[tokens.predicted]``.
        hidden: Output of a layer.
        queries: Projected queries of a layer, attention heads joined; keys and
            values likewise.
    """

    logits: Float[Tensor, "predicted vocabulary"] | None = None
    hidden: dict[int, Float[Tensor, "batch tokens hidden"]] = field(default_factory=dict)
    queries: dict[int, Float[Tensor, "batch tokens width"]] = field(default_factory=dict)
    keys: dict[int, Float[Tensor, "batch tokens width"]] = field(default_factory=dict)
    values: dict[int, Float[Tensor, "batch tokens width"]] = field(default_factory=dict)


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
    wanted = needs.tensors()
    found: dict[tuple[str, int], Tensor] = {}
    body = model.base_model
    handles = _hook(body, anatomy, wanted, found, stop=not needs.logits)
    try:
        output = body(input_ids=tokens.input_ids, attention_mask=tokens.mask)
    except _Complete:
        output = None
    finally:
        for handle in handles:
            handle.remove()
    if missing := wanted - found.keys():
        raise ModelError(f"the forward never computed {sorted(missing)}; correct the anatomy")
    logits = None
    if needs.logits:
        logits = output.last_hidden_state[tokens.predicted]
        for part in vocabulary_head(model, anatomy):
            logits = part(logits)
    by_kind: dict[str, dict[int, Tensor]] = {}
    for (kind, layer), tensor in found.items():
        by_kind.setdefault(kind, {})[layer] = tensor
    return Activations(logits=logits, **by_kind)


def vocabulary_head(model: PreTrainedModel, anatomy: Anatomy) -> list[nn.Module]:
    """The modules that turn last hidden states into vocabulary logits, in turn.

    Raises:
        ModelError: The model has none.
    """
    children = dict(model.named_children())
    if not anatomy.head or any(name.split(".")[0] not in children for name in anatomy.head):
        raise ModelError(
            f"{type(model).__name__} has no vocabulary head, which labels and output"
            " distributions need; train one with a stage that has no teacher and the"
            " objective `labels`"
        )
    return [submodule(model, path) for path in anatomy.head]


def _hook(
    body: nn.Module,
    anatomy: Anatomy,
    wanted: set[tuple[str, int]],
    found: dict[tuple[str, int], Tensor],
    *,
    stop: bool,
) -> list[RemovableHandle]:
    layers = list(submodule(body, anatomy.layers).children())

    def keep(names: Sequence[tuple[str, int]], split: bool) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            parts = tensor.chunk(3, dim=-1) if split else (tensor,)
            found.update((n, p) for n, p in zip(names, parts, strict=True) if n in wanted)
            if stop and found.keys() >= wanted:
                raise _Complete

        return hook

    handles = []
    for layer in sorted({layer for _, layer in wanted}):
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
        if ("hidden", layer) in wanted:
            handles.append(here.register_forward_hook(keep([("hidden", layer)], split=False)))
    return handles


def float32_region(tensor: Tensor) -> torch.autocast:
    """A context in which autocast is off on the tensor's device: losses are float32."""
    return torch.autocast(tensor.device.type, enabled=False)
