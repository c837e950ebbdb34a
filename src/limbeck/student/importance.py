"""How active heads, feed-forward units and coordinates of a model are on text.

One pass over calibration text measures all of them, in every family whose row gives the roles of
its weights' axes.

Source: Muralidharan et al. 2024, Minitron, arXiv:2407.14679, whose scores these are. Sheared LLaMA,
Xia et al. 2023, arXiv:2310.06694, learns masks over the same parts of a model instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..activations import Needs
from ..batch import Tokens
from ..models.architecture import Architecture
from ..models.capture import capture
from ..models.shapes import Shape
from .axis_roles import ATTENTION, FEED_FORWARD, layer_of, outputs_first_roles


@dataclass
class Importance:
    """Scores of the parts of a model; larger ones matter more. All are sums over real tokens.

    Attributes:
        hidden: Of each coordinate of the hidden states: its absolute value where layers read the
            states, that is after the norms, with every token scaled to a mean square of 1.
        squares: Of each coordinate of the layers' outputs, its part of the square of the token.
        heads: Of each query head, by the number of the module of layers: the norm of its output.
        inner: Of each feed-forward unit, by module too: its absolute activation.
    """

    hidden: Float[Tensor, " hidden"]
    squares: Float[Tensor, " hidden"]
    heads: dict[int, Float[Tensor, " heads"]] = field(default_factory=dict)
    inner: dict[int, Float[Tensor, " inner"]] = field(default_factory=dict)


def measure_importance(
    model: PreTrainedModel, architecture: Architecture, shape: Shape, calibration: Sequence[Tokens]
) -> Importance:
    """The scores of a model's parts on text.

    Args:
        model: In evaluation mode.
        architecture: The family's row, with the roles of its weights' axes.
        shape: Sizes of the model.
        calibration: Text in the model's tokens; a few thousand tokens are enough.
    """
    measuring = _Measuring(architecture, shape)
    handles = [
        module.register_forward_pre_hook(partial(measuring.enter, kind=kind, number=number))
        for module, kind, number in _measured_modules(model, architecture)
    ]
    everything = Needs(hidden=frozenset(range(shape.num_hidden_layers)))
    try:
        with torch.no_grad():
            for tokens in calibration:
                measuring.begin(tokens)
                measuring.leave(capture(model, architecture, tokens, everything).hidden)
    finally:
        for handle in handles:
            handle.remove()
    return measuring.found


class _Measuring:
    """What is added up over the forwards of a model."""

    def __init__(self, architecture: Architecture, shape: Shape) -> None:
        size = shape.hidden_size
        self.found = Importance(torch.zeros(size), torch.zeros(size))
        self._shape, self._once = shape, not architecture.shared_layers
        self._mask = torch.zeros(0)
        self._entered: set[int] = set()

    def begin(self, tokens: Tokens) -> None:
        """What follows is a forward over these tokens."""
        self._mask, self._entered = tokens.mask, set()

    def enter(self, module: nn.Module, arguments: Any, *, kind: str, number: int) -> None:
        """A module is given its inputs."""
        if self._once and id(module) in self._entered:
            return  # DeBERTa gives its queries and keys the embeddings of distances too
        self._entered.add(id(module))
        rows = self._real(arguments[0])
        if kind == "hidden":
            self.found.hidden += _scaled(rows).abs().sum(0)
        elif kind == "heads":
            norms = rows.reshape(len(rows), self._shape.num_attention_heads, -1).norm(dim=-1)
            self._add(self.found.heads, number, norms)
        else:
            self._add(self.found.inner, number, rows.abs())

    def leave(self, states: Mapping[int, Tensor]) -> None:
        """The layers have returned their states."""
        for number, state in states.items():
            rows = _scaled(self._real(state))
            self.found.squares += rows.square().sum(0) / self._shape.hidden_size
            if number == self._shape.num_hidden_layers - 1:  # no layer reads these
                self.found.hidden += rows.abs().sum(0)

    def _add(self, scores: dict[int, Tensor], number: int, rows: Tensor) -> None:
        total = rows.sum(0)
        scores[number] = scores[number] + total if number in scores else total

    def _real(self, states: Tensor) -> Float[Tensor, "real width"]:
        """The states of real tokens; some families join the rows of a batch."""
        return states.detach().flatten(0, -2)[self._mask.flatten()].float().cpu()


def _measured_modules(
    model: PreTrainedModel, architecture: Architecture
) -> list[tuple[nn.Module, str, int]]:
    """Modules whose inputs are scored, each with the role that it scores and its layer's number."""
    modules: list[tuple[nn.Module, str, int]] = []
    reads = set()
    for name, _ in model.base_model.named_parameters():
        number, _ = layer_of(name, architecture)
        roles = outputs_first_roles(name, architecture)
        if number is None or roles is None or len(roles) != 2:
            continue
        module = model.base_model.get_submodule(name.rpartition(".")[0])
        if roles[0] == "hidden" and roles[1] in ("heads", "inner"):
            modules.append((module, roles[1], number))
        part = next((part for part in (ATTENTION, FEED_FORWARD) if roles[0] in part), None)
        # Queries, keys and values read the same states, which are scored once.
        if part and roles[1] == "hidden" and (number, part) not in reads:
            reads.add((number, part))
            modules.append((module, "hidden", number))
    return modules


def _scaled(rows: Float[Tensor, "real width"]) -> Float[Tensor, "real width"]:
    return rows / rows.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
