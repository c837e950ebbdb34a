"""One forward of a model, which stops as soon as all needed activations are captured.

Hooks are set on exactly the modules that compute them, so deeper layers and an unused vocabulary
head cost nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from ..activations import (
    EMBEDDINGS,
    PREDICTIONS,
    Activations,
    Name,
    Needs,
    OutputMap,
    as_activations,
)
from ..batch import Tokens
from ..errors import ModelError
from .architecture import Architecture
from .modules import submodule


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
    hooked = wanted - {PREDICTIONS}
    found: dict[Name, Tensor] = {}
    body = model.base_model
    handles = _hook(body, architecture, hooked, found, stop=not head)
    try:
        arguments: dict[str, Any] = {"use_cache": False} if architecture.causal else {}
        # Without an attention mask, transformers isolates the documents of a row by their
        # positions: a new document begins wherever the positions restart.
        isolated = tokens.positions is not None
        arguments |= {"position_ids": tokens.positions} if isolated else {}
        mask = None if isolated else tokens.mask
        states = body(input_ids=tokens.input_ids, attention_mask=mask, **arguments)
    except _Complete:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if output is not None:
        rows = states.last_hidden_state[tokens.predicted]
        found[PREDICTIONS] = _features(head, output, rows)
    if missing := wanted - found.keys():
        raise ModelError(f"the forward never computed {sorted(missing)}; correct the architecture")
    return found


def output_map(model: PreTrainedModel, architecture: Architecture) -> OutputMap:
    """Weight and bias of the linear map to the vocabulary.

    Raises:
        ModelError: The model has no vocabulary head.
    """
    _, output = _vocabulary_head(model, architecture)
    return output.weight, output.bias


def _vocabulary_head(
    model: PreTrainedModel, architecture: Architecture
) -> tuple[list[nn.Module], nn.Linear]:
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
    output = submodule(model, architecture.output or architecture.head[-1])
    if not isinstance(output, nn.Linear):
        raise ModelError(
            f"the architecture's output {architecture.output or architecture.head[-1]!r} is"
            f" {type(output).__name__}, not the linear map to the vocabulary; give its path"
        )
    return [submodule(model, path) for path in architecture.head], output


def _features(head: Sequence[nn.Module], output: nn.Linear, rows: Tensor) -> Tensor:
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
        pass
    finally:
        handle.remove()
    return entered[0]


def _hook(
    body: nn.Module,
    architecture: Architecture,
    wanted: set[Name],
    found: dict[Name, Tensor],
    *,
    stop: bool,
) -> list[RemovableHandle]:
    layers = list(submodule(body, architecture.layers).children())

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
        take([EMBEDDINGS], [arguments[0] if arguments else named["hidden_states"]])

    handles = []
    if EMBEDDINGS in wanted:
        handles.append(layers[0].register_forward_pre_hook(enter, with_kwargs=True))
    for layer in sorted({layer for name, layer in wanted - {EMBEDDINGS}}):
        if not 0 <= layer < len(layers):
            raise ModelError(
                f"layer {layer} was requested, but there are {len(layers)} layers: 0 to"
                f" {len(layers) - 1} (the embedding output is not counted)"
            )
        here = layers[layer]
        for path, kinds in architecture.projections.items():
            names = [(kind, layer) for kind in kinds]
            if wanted.intersection(names):
                hook = keep(names, split=architecture.fused)
                handles.append(submodule(here, path).register_forward_hook(hook))
        if (entered := ("entered", layer)) in wanted:
            hook_in = before([entered])
            handles.append(submodule(here, architecture.query).register_forward_pre_hook(hook_in))
        if ("hidden", layer) in wanted:
            handles.append(here.register_forward_hook(keep([("hidden", layer)], split=False)))
    return handles
