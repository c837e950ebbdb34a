"""Whether the weights and the configuration of a model match.

transformers initializes missing weights at random and ignores weights that it does not know. Here
both are errors, unless they concern parts that are not needed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from ..errors import ModelError
from .quiet import quiet_transformers
from .weight_files import first_few
from .weight_names import (
    in_order,
    layer_numbers,
    listed_layers,
    of_adapters,
    prefix_of,
    with_and_without,
)

# Buffers that older versions of transformers saved, and that are computed today.
COMPUTED = {"position_ids", "token_type_ids", "inv_freq", "masked_bias"}


@dataclass(frozen=True)
class WeightFit:
    """The differences between a model's weights and its configuration.

    Attributes:
        described: Number of weights that the body has according to the configuration.
        missing: Weights of the body, except its pooler, that the files lack.
        missing_in_head: Weights of the head that the files lack; with those of the pooler, which
            the heads of classifiers read.
        head_in_part: Whether the files have some weights of the head and lack others.
        unexpected: Weights in the files that the configuration does not describe.
        unplaced: The unexpected weights that lie inside the body.
        adapters: The unexpected weights that only adapters have.
        prefix: The common beginning of all unexpected names, where they are the names of missing
            weights without it; otherwise empty.
        reshaped: Weights of other sizes: name, size in the files, size in the configuration.
        layers: Number of layers that the configuration describes.
        absent: The layers of which the files have no weight.
    """

    described: int
    missing: tuple[str, ...]
    missing_in_head: tuple[str, ...]
    head_in_part: bool
    unexpected: tuple[str, ...]
    unplaced: tuple[str, ...]
    adapters: tuple[str, ...]
    prefix: str
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    layers: int | None
    absent: frozenset[int]

    def problem(self, name: str, *, head_in_part: bool = True) -> str | None:
        """Why the model cannot be used; None where it can.

        Args:
            name: The name that the user gave.
            head_in_part: An incomplete vocabulary head is no problem, as it is not needed.
        """
        lacking = self.missing
        if self.head_in_part and not head_in_part:
            lacking += self.missing_in_head
        said = []
        if lacking:
            of = f" of the {self.described} weights" if lacking == self.missing else " weights"
            said.append(
                f"lacks {len(lacking)}{of} that config.json describes: {first_few(lacking)}"
            )
        if self.reshaped:
            sizes = first_few(
                f"{key} is {list(there)} and should be {list(wanted)}"
                for key, there, wanted in self.reshaped
            )
            said.append(f"has weights of other sizes than config.json describes: {sizes}")
        if names := self.unexpected if self.prefix else self.adapters or self.unplaced:
            said.append(
                f"holds {len(names)} weights that config.json does not describe: {first_few(names)}"
            )
        return f"{name!r} " + ", and ".join(said) + f". {self._advice()}" if said else None

    def head_note(self, name: str) -> str | None:
        """A note that an incomplete vocabulary head is left out; None where there is none."""
        if not self.head_in_part:
            return None
        return (
            f"{name!r} has a part of a vocabulary head, and lacks {len(self.missing_in_head)} of"
            f" its weights: {first_few(self.missing_in_head)}. The head is left out; only the body"
            " is used"
        )

    def _advice(self) -> str:
        if self.adapters:
            return (
                "Names with base_model.model., base_layer, lora_ and the like are those of"
                " adapters that were not merged; load the model with peft as it was saved, call"
                " model.merge_and_unload().save_pretrained(folder), and name that folder"
            )
        if self.prefix:
            return (
                f"All {len(self.unexpected)} unexpected names begin with {self.prefix!r}; save the"
                " weights without it, or give the config.json of their own model"
            )
        more = layer_numbers(self.unplaced)
        if self.layers and more and min(more) >= self.layers:
            if more == set(range(self.layers, max(more) + 1)) and not self.absent:
                there = f"the files have {max(more) + 1}; correct it"
            else:
                there = f"the files hold {listed_layers(self._present | more)}; copy it whole"
            return f"config.json has {self.layers} layers (num_hidden_layers) and {there}"
        if self.layers and self.absent and len(self.absent) < self.layers:
            if self.absent == set(range(min(self.absent), self.layers)):
                there = f"have {min(self.absent)}; correct it, or copy the whole model"
            else:
                there = f"hold {listed_layers(self._present)} alone; copy the whole model"
            return f"config.json has {self.layers} layers (num_hidden_layers) and the files {there}"
        return "config.json and the weights must be of the same model; copy it whole"

    @property
    def _present(self) -> set[int]:
        return set(range(self.layers or 0)) - self.absent


def check_layers(name: str, config: Any, weights: Collection[str]) -> None:
    """Check, before a model is built, that its files have at least one weight for each layer.

    Args:
        name: The name that the user gave.
        config: The model's configuration.
        weights: The names of the weights in its files.

    Raises:
        ModelError: The configuration has more layers than the files have weights.
    """
    layers = getattr(config, "num_hidden_layers", None)
    if isinstance(layers, int) and layers > len(weights):
        raise ModelError(
            f"config.json of {name!r} has {layers} layers (num_hidden_layers), but its files hold"
            f" {len(weights)} weights in all; correct it, or copy the whole model"
        )


def with_shared_biases(model: PreTrainedModel, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The loading information, after biases that have two names were completed in place.

    Some families have the bias of their head under two names, of which files hold one. Where the
    head is not tied to the embedding table, transformers leaves the other one at 0.

    Args:
        model: The loaded model.
        facts: transformers' loading information.
    """
    missing = set(facts["missing_keys"])
    twins = dict(type(model)._tied_weights_keys or {})
    for one, other in [*twins.items(), *((there, here) for here, there in twins.items())]:
        if one.endswith(".bias") and one in missing and other not in missing:
            with torch.no_grad():
                model.get_parameter(one).copy_(model.get_parameter(other))
            missing.discard(one)
    return {**facts, "missing_keys": missing}


def load_named(
    own: type[PreTrainedModel], config: Any, weights: Mapping[str, Tensor], **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A model built from named weights, and transformers' loading information.

    What the weights lack is random.
    """
    with quiet_transformers(), no_init_weights():
        loaded: Any = own.from_pretrained(
            None,
            config=config,
            state_dict=dict(weights),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    model, facts = loaded
    return model, facts


def fit_of(model: PreTrainedModel, facts: Mapping[str, Any]) -> WeightFit:
    """The differences that were found when a model was loaded.

    Args:
        model: The loaded model.
        facts: transformers' loading information.
    """
    prefix = "" if model is model.base_model else f"{model.base_model_prefix}."
    parts = {name.split(".")[0] for name in model.base_model.state_dict()}
    parts |= {name for name, _ in model.base_model.named_children()}

    def in_body(name: str) -> bool:
        inside = name.removeprefix(f"{model.base_model_prefix}.")
        first = inside.split(".")[0]
        return first != "pooler" and (inside != name or first in parts)

    named = model.state_dict()
    body = {name for name in named if name.startswith(prefix) and in_body(name)}
    head = set(named) - body if prefix else set()
    missing = set(facts["missing_keys"])
    tied = set(model.all_tied_weights_keys)
    missing_in_head = (missing & head) - tied
    adapters = of_adapters(facts["unexpected_keys"])
    unexpected = [n for n in facts["unexpected_keys"] if n.split(".")[-1] not in COMPUTED]
    reshaped = {(n, tuple(there), tuple(wanted)) for n, there, wanted in facts["mismatched_keys"]}
    return WeightFit(
        described=len(body),
        missing=in_order(missing & body),
        missing_in_head=in_order(missing_in_head),
        head_in_part=bool(missing_in_head) and bool(head - missing - tied),
        unexpected=in_order(unexpected),
        unplaced=in_order(name for name in unexpected if in_body(name)),
        adapters=in_order(adapters),
        prefix=prefix_of(unexpected, with_and_without(missing, model.base_model_prefix)),
        reshaped=tuple(sorted(found for found in reshaped if found[0] in body | head)),
        layers=getattr(model.config, "num_hidden_layers", None),
        absent=frozenset(layer_numbers(missing & body) - layer_numbers(body - missing)),
    )


def not_finite(name: str, model: PreTrainedModel) -> str | None:
    """The problem that weights of a model are NaN or infinite; None where all are finite.

    Args:
        name: The name that the user gave.
        model: The loaded model.
    """
    # Minimum and maximum are NaN where any number is, and are the fastest test of all numbers.
    wrong = [
        key
        for key, weight in model.named_parameters()
        if weight.numel() and not torch.stack(weight.detach().aminmax()).isfinite().all()
    ]
    if not wrong:
        return None
    return (
        f"{name!r} holds {len(wrong)} weights that are not finite (NaN or infinite):"
        f" {first_few(in_order(wrong))}. The file is damaged, or the training that made it has"
        " diverged; copy the model again, or use an earlier checkpoint"
    )
