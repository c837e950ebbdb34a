"""One forward of a model, which stops as soon as all needed activations are captured.

Hooks are set on exactly the modules that compute them, so deeper layers and an unused vocabulary
head cost nothing.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from ..activations import (
    CLASS_LOGITS,
    EMBEDDINGS,
    PREDICTIONS,
    SENTENCE_VECTORS,
    Activations,
    Name,
    Needs,
    OutputMap,
    as_activations,
)
from ..batch import Tokens
from ..errors import ModelError
from .architecture import Architecture
from .attention_masks import known_masks
from .compiled import compiled_layers
from .modules import submodule
from .projections import Projection, projections_of, split_projection
from .sentences.attached import vectors_of
from .shapes import head_counts


class _Complete(Exception):  # noqa: N818 - not an error, but the end of a forward
    """Stops a forward of which everything needed has been captured."""


def capture(
    model: PreTrainedModel, architecture: Architecture, tokens: Tokens, needs: Needs
) -> Activations:
    """The activations that ``needs`` names, with gradients where the model has them.

    Raises:
        ModelError: Logits are needed and the model has no vocabulary head, a layer does not
            exist, or the forward did not compute one of the needed activations.
    """
    if not needs.anything:
        return Activations()
    found = capture_tensors(model, architecture, tokens, needs.tensors())
    return as_activations(found, output_map(model, architecture) if needs.predictions else None)


def capture_tensors(
    model: PreTrainedModel, architecture: Architecture, tokens: Tokens, wanted: set[Name]
) -> dict[Name, Tensor]:
    """The tensors with the wanted names; for predictions, only the features.

    Besides the kinds of `Needs` there is ``entered``: the input of the query, key and value
    projections.

    Raises:
        ModelError: As `capture`.
    """
    head, output = _vocabulary_head(model, architecture) if PREDICTIONS in wanted else ([], None)
    hooked = wanted - {PREDICTIONS, CLASS_LOGITS, SENTENCE_VECTORS}
    found: dict[Name, Tensor] = {}
    body, classified = model.base_model, CLASS_LOGITS in wanted
    to_the_end = bool(head) or classified or SENTENCE_VECTORS in wanted
    handles = _Hooks(model, architecture, hooked, found, stop=not to_the_end).handles
    said: list[Any] = []  # by the body, where the head of a task follows
    if classified:
        handles.append(body.register_forward_hook(lambda _, given, output: said.append(output)))
    try:
        runs = model if classified else body
        layers = [layer for layer, _ in runs_of_layers(model, architecture)]
        inside = {number for kind, number in hooked - {EMBEDDINGS} if kind != "hidden"}
        with known_masks(tokens), compiled_layers(layers, inside):
            states = runs(input_ids=tokens.input_ids, **_arguments(architecture, tokens))
    except _Complete:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if classified:
        found[CLASS_LOGITS], states = _class_logits(states.logits, tokens), said[-1]
    if SENTENCE_VECTORS in wanted:
        found[SENTENCE_VECTORS] = vectors_of(model)(states.last_hidden_state, tokens.mask)
    if output is not None:
        rows = tokens.at_predicted(states.last_hidden_state)
        features = _features(head, output, rows)
        scale = getattr(model.config, architecture.logits_multiplier_field or "-", 1.0)
        scale /= getattr(model.config, architecture.logits_divisor_field or "-", 1.0)
        found[PREDICTIONS] = features if scale == 1.0 else features * scale
    if missing := wanted - found.keys():
        raise ModelError(f"the forward never computed {sorted(missing)}; correct the architecture")
    return found


def _arguments(architecture: Architecture, tokens: Tokens) -> dict[str, Any]:
    """What the body's forward is given beside the tokens."""
    arguments: dict[str, Any] = {"use_cache": False} if architecture.causal else {}
    if tokens.token_type_ids is not None:
        arguments["token_type_ids"] = tokens.token_type_ids
    if tokens.positions is None:
        # As a number, because some families compute with it.
        return {**arguments, "attention_mask": tokens.mask.long()}
    # Without an attention mask, transformers isolates the documents of a row by their
    # positions: a new document begins wherever the positions restart.
    if not architecture.separable_documents:
        raise ModelError(
            "this family cannot keep the documents of one row apart; use `isolate_documents: false`"
        )
    return {**arguments, "attention_mask": None, "position_ids": tokens.positions}


def _class_logits(logits: Tensor, tokens: Tokens) -> Tensor:
    """Logits of texts as they are, and of tokens at the predicted ones."""
    return logits if logits.dim() == 2 else tokens.at_predicted(logits)


def output_map(model: PreTrainedModel, architecture: Architecture) -> OutputMap:
    """Weight and bias of the linear map to the vocabulary, and the bound of its logits.

    Raises:
        ModelError: The model has no vocabulary head.
    """
    _, output = _vocabulary_head(model, architecture)
    own_bias = architecture.output_bias
    bias = model.get_parameter(own_bias) if own_bias else output.bias
    soft_cap = getattr(model.config, architecture.soft_cap_field or "-", None)
    return OutputMap(output.weight, bias, soft_cap)


def _vocabulary_head(
    model: PreTrainedModel, architecture: Architecture
) -> tuple[list[nn.Module], Any]:
    """The modules that map last hidden states to logits, in order, and their final linear map."""
    children = dict(model.named_children())
    if not architecture.head or any(
        name.split(".")[0] not in children for name in architecture.head
    ):
        raise ModelError(
            f"{type(model).__name__} has no vocabulary head, which labels and output"
            " distributions need; train one with a stage that has no teacher and the"
            " objective `labels` (recipes/minilm_head.yaml is one)"
        )
    path = architecture.output or architecture.head[-1]
    output = submodule(model, path)
    if not isinstance(output, nn.Linear | nn.Embedding):
        raise ModelError(
            f"the architecture's output {path!r} is {type(output).__name__}, not the linear map to"
            " the vocabulary; give its path"
        )
    return [submodule(model, path) for path in architecture.head], output


def _features(head: Sequence[nn.Module], output: nn.Module, rows: Tensor) -> Tensor:
    """The input of the head's final linear map, which is not run."""
    entered: list[Tensor] = []

    def hook(module: nn.Module, arguments: Any) -> None:
        entered.append(arguments[0])
        raise _Complete

    handle = output.register_forward_pre_hook(hook)
    try:
        for part in head:
            rows = part(rows)
    except _Complete:
        return entered[0]
    finally:
        handle.remove()
    return rows  # the final map is the embedding table, which is no part of the head


class _Hooks:
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
            raise _Complete


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
