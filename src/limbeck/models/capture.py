"""One forward of a model, which stops as soon as all needed activations are captured.

Hooks are set on exactly the modules that compute them, so deeper layers and an unused vocabulary
head cost nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
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
from .hooks import Complete, Hooks, runs_of_layers
from .modules import submodule
from .sentences.attached import vectors_of

OF_LAST_STATES = {PREDICTIONS, CLASS_LOGITS, SENTENCE_VECTORS}


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
    if PREDICTIONS in wanted:
        _vocabulary_head(model, architecture)  # refuses a model without one
    return after_body(
        model, architecture, tokens, wanted, run_body(model, architecture, tokens, wanted)
    )


class BodyOutput(NamedTuple):
    """What one forward of a body has given.

    Attributes:
        found: Tensors of layers, by name.
        states: The last hidden states, after any norm; None where the forward stopped before.
        logits: Of the head of a task; None where none is wanted.
    """

    found: dict[Name, Tensor]
    states: Float[Tensor, "batch tokens hidden"] | None
    logits: Tensor | None


def run_body(
    model: PreTrainedModel,
    architecture: Architecture,
    tokens: Tokens,
    wanted: set[Name],
    *,
    filled_masks: bool = False,
) -> BodyOutput:
    """One forward, to the end only where what is wanted is made of the last hidden states.

    Args:
        model: Any model of the family.
        architecture: The family's row.
        tokens: That are read.
        wanted: Names, as `capture_tensors` takes them.
        filled_masks: As ``filled`` of `known_masks`, for a forward that is traced.

    Raises:
        ModelError: A layer does not exist.
    """
    hooked, classified = wanted - OF_LAST_STATES, CLASS_LOGITS in wanted
    found: dict[Name, Tensor] = {}
    stop = not wanted & OF_LAST_STATES
    handles = Hooks(model, architecture, hooked, found, stop=stop).handles
    said: list[Any] = []  # by the body, which the head of a task may follow
    body = model.base_model
    handles.append(body.register_forward_hook(lambda _, given, output: said.append(output)))
    output: Any = None
    try:
        layers = [layer for layer, _ in runs_of_layers(model, architecture)]
        inside = {number for kind, number in hooked - {EMBEDDINGS} if kind != "hidden"}
        with known_masks(tokens, filled=filled_masks), compiled_layers(layers, inside):
            runs = model if classified else body
            given = _arguments(architecture, tokens)
            output = runs(input_ids=tokens.input_ids, return_dict=True, **given)
    except Complete:
        pass
    finally:
        for handle in handles:
            handle.remove()
    states = said[-1].last_hidden_state if said else None
    return BodyOutput(found, states, output.logits if classified else None)


def after_body(
    model: PreTrainedModel,
    architecture: Architecture,
    tokens: Tokens,
    wanted: set[Name],
    body: BodyOutput,
) -> dict[Name, Tensor]:
    """All that is wanted, of what the body has given.

    Raises:
        ModelError: The body has not given one of the tensors.
    """
    found = dict(body.found)
    if body.logits is not None:
        found[CLASS_LOGITS] = _class_logits(body.logits, tokens)
    if body.states is not None and SENTENCE_VECTORS in wanted:
        found[SENTENCE_VECTORS] = vectors_of(model)(body.states, tokens.mask)
    if body.states is not None and PREDICTIONS in wanted:
        head, output = _vocabulary_head(model, architecture)
        features = _features(head, output, tokens.at_predicted(body.states))
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
        raise Complete

    handle = output.register_forward_pre_hook(hook)
    try:
        for part in head:
            rows = part(rows)
    except Complete:
        return entered[0]
    finally:
        handle.remove()
    return rows  # the final map is the embedding table, which is no part of the head
