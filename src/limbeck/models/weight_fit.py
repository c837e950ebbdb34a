"""Whether a model's weights and its configuration are of the same model.

transformers draws the weights that a file lacks at random and leaves out those that it does not
know; here nothing of either is passed over but what nobody asked for.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

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

# Buffers of older versions of transformers, which are computed today.
COMPUTED = {"position_ids", "token_type_ids", "inv_freq", "masked_bias"}


@dataclass(frozen=True)
class WeightFit:
    """What of a model's weights and its configuration does not fit together.

    Attributes:
        described: How many weights the body has by its configuration.
        missing: Weights of the body that the files lack, without its pooler.
        missing_in_head: Weights of the vocabulary head that they lack.
        head_in_part: Whether some of the head is there, and some is not.
        unexpected: Weights that the files have and the configuration does not describe.
        unplaced: Those of them that lie inside the body.
        adapters: Those of them that only adapters have.
        prefix: With what all unexpected names begin, where they are those of missing weights
            without it; otherwise empty.
        reshaped: Weights of other sizes: name, size in the files, size by the configuration.
        layers: The layers that the configuration describes.
        absent: Those of them of which the files have nothing.
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
            name: What the user called it.
            head_in_part: Half of a vocabulary head is fine: nobody asks for it.
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
        """That a model has half of a vocabulary head, which nobody reads; None where it has not."""
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
    """See that a model is worth building: every layer has a weight at least.

    Args:
        name: What the user called it.
        config: Its configuration.
        weights: The names in its files.

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
    """What transformers says of a loading, once biases of two names have been filled in, in place.

    Some families have the bias of their head under two names, of which files hold one; where
    the head is not tied to the embedding table, transformers leaves the other one at 0.

    Args:
        model: As it was loaded.
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
    """A model of weights under their names, and what transformers says of the loading."""
    with quiet_transformers():
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
    """What did not fit when a model was loaded.

    Args:
        model: As it was built.
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
    head = {name for name in named if not name.startswith(prefix)}
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
    """That weights of a loaded model are NaN or infinite; None where all are numbers.

    Args:
        name: What the user called the model.
        model: As it was loaded.
    """
    # Both ends of the range are NaN where one number is; the fastest look at all of them.
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
        " diverged; copy the model anew, or take an earlier checkpoint"
    )
