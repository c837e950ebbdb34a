"""Hooks on exactly the modules that compute the wanted tensors of a model's layers."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from ..activations import EMBEDDINGS, Name
from ..errors import ModelError
from .architecture import Architecture
from .modules import submodule
from .projections import Projection, projections_of, split_projection
from .shapes import head_counts


class Complete(Exception):  # noqa: N818 - not an error, but the end of a forward
    """Stops a forward of which everything needed has been captured."""


class Hooks:
    """Hooks on exactly the modules that compute what is wanted."""

    def __init__(
        self,
        model: PreTrainedModel,
        architecture: Architecture,
        wanted: set[Name],
        found: dict[Name, Tensor],
        *,
        stop: bool,
    ) -> None:
        """Put what is ``wanted`` into ``found``; ``stop`` ends the forward once all is there."""
        self._body, self._architecture = model.base_model, architecture
        self._wanted, self._found, self._stop = wanted, found, stop
        self._heads = head_counts(model.config, architecture)
        self.handles: list[RemovableHandle] = []
        layers = runs_of_layers(model, architecture)
        if EMBEDDINGS in wanted:
            hook = layers[0][0].register_forward_pre_hook
            self.handles.append(hook(self._enter, with_kwargs=True))
        for number in sorted({number for _, number in wanted - {EMBEDDINGS}}):
            if not 0 <= number < len(layers):
                raise ModelError(
                    f"layer {number} was requested, but there are {len(layers)} layers: 0 to"
                    f" {len(layers) - 1} (the embedding output is not counted)"
                )
            self._hook_layer(number, *layers[number])

    def _hook_layer(self, number: int, layer: nn.Module, run: int) -> None:
        architecture, wanted = self._architecture, self._wanted
        for projection in projections_of(architecture):
            if not wanted.intersection((kind, number) for kind in projection.wanted):
                continue

            source = self._submodule(layer, number, projection.path)
            self._after(source, number, run, partial(self._parts, projection))
        if (entered := ("entered", number)) in wanted:
            source = self._submodule(layer, number, architecture.query)
            take = self._on_run(run, lambda given: self._take({entered: given[0]}))
            self.handles.append(source.register_forward_pre_hook(lambda _, given: take(given)))
        if ("hidden", number) in wanted:
            source = layer
            if number == 0 and _has(self._body, architecture.first_output):
                source = submodule(self._body, architecture.first_output)
            self._after(source, number, run, lambda output: {"hidden": _first(output)})

    def _parts(self, projection: Projection, output: Tensor) -> dict[str, Tensor]:
        if not projection.linear:  # a norm may be given each head apart
            output = output.transpose(1, 2) if self._architecture.norms_by_head else output
            output = output.flatten(2)
        parts = split_projection(output, projection, self._architecture, self._heads)
        return {kind: parts[kind] for kind in projection.wanted}

    def _submodule(self, layer: nn.Module, number: int, path: str) -> nn.Module:
        if not path:
            raise ModelError(
                f"the queries, keys and values of {type(self._body).__name__} are not known; give"
                " their paths (`limbeck inspect` shows why), or compare hidden states"
            )
        if not _has(layer, path):
            raise ModelError(
                f"layer {number} ({type(layer).__name__}) has no {path!r}: it has no queries, keys"
                " and values that could be compared; name a layer that has them"
            )
        return submodule(layer, path)

    def _after(
        self, module: nn.Module, layer: int, run: int, split: Callable[[Any], dict[str, Tensor]]
    ) -> None:
        take = self._on_run(
            run,
            lambda output: self._take({(k, layer): part for k, part in split(output).items()}),
        )
        self.handles.append(module.register_forward_hook(lambda _, given, output: take(output)))

    def _on_run(self, run: int, take: Callable[[Any], None]) -> Callable[[Any], None]:
        """The same on the given run of a module within one forward, counted from 0."""
        runs = itertools.count()

        def on_run(tensors: Any) -> None:
            if next(runs) == run:
                take(tensors)

        return on_run

    def _enter(self, module: nn.Module, arguments: Any, named: Any) -> None:
        if EMBEDDINGS not in self._found:  # a shared layer is entered again
            self._take({EMBEDDINGS: arguments[0] if arguments else named["hidden_states"]})

    def _take(self, parts: dict[Name, Tensor]) -> None:
        self._found.update((name, part) for name, part in parts.items() if name in self._wanted)
        if self._stop and self._found.keys() >= self._wanted:
            raise Complete


def runs_of_layers(
    model: PreTrainedModel, architecture: Architecture
) -> list[tuple[nn.Module, int]]:
    """Every layer's module, and which run of that module within a forward the layer is."""
    modules = list(submodule(model.base_model, architecture.layers).children())
    if not architecture.shared_layers:
        return [(module, 0) for module in modules]
    count = model.config.num_hidden_layers
    owners = [layer * len(modules) // count for layer in range(count)]
    return [(modules[owner], layer - owners.index(owner)) for layer, owner in enumerate(owners)]


def _first(output: Any) -> Tensor:
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


def _has(module: nn.Module, path: str) -> bool:
    """Whether there is a module at a path; some families leave one out where sizes allow it."""
    try:
        return bool(path) and bool(module.get_submodule(path))
    except AttributeError:
        return False
