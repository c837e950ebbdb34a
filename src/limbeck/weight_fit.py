"""Whether a model's weights and its configuration are of the same model.

transformers draws the weights that a file lacks at random and leaves out those that it does not
know; here nothing of either is passed over but what nobody asked for.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .errors import ModelError
from .quiet import quiet_transformers
from .weight_files import first_few

# What torch's wrappers of a model leave in the names of its weights.
_WRAPPERS = re.compile(
    r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
# Buffers of older versions of transformers, which are computed today.
_COMPUTED = {"position_ids", "token_type_ids", "inv_freq", "masked_bias"}


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
        prefix: With what all unexpected names begin, where they are those of missing weights
            without it; otherwise empty.
        reshaped: Weights of other sizes: name, size in the files, size by the configuration.
        layers: The layers that the configuration describes.
    """

    described: int
    missing: tuple[str, ...]
    missing_in_head: tuple[str, ...]
    head_in_part: bool
    unexpected: tuple[str, ...]
    unplaced: tuple[str, ...]
    prefix: str
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    layers: int | None

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
        if names := self.unexpected if self.prefix else self.unplaced:
            said.append(
                f"holds {len(names)} weights that config.json does not describe: {first_few(names)}"
            )
        return f"{name!r} " + ", and ".join(said) + f". {self._advice()}" if said else None

    def _advice(self) -> str:
        if self.prefix:
            return (
                f"All {len(self.unexpected)} unexpected names begin with {self.prefix!r}; save the"
                " weights without it, or give the config.json of their own model"
            )
        missing, more = _numbers(self.missing), _numbers(self.unplaced)
        if self.layers and missing and max(missing) == self.layers - 1:
            first = min(missing)
            if first and not self.unplaced and missing == set(range(first, self.layers)):
                return (
                    f"config.json has {self.layers} layers (num_hidden_layers) and the files have"
                    f" {first}; correct it, or copy the whole model"
                )
        if self.layers and more and min(more) >= self.layers:
            return (
                f"config.json has {self.layers} layers (num_hidden_layers) and the files have"
                f" {max(more) + 1}; correct it"
            )
        return "config.json and the weights must be of the same model; copy it whole"


def check_layers(name: str, config: Any, weights: Mapping[str, Tensor]) -> None:
    """See that a model is worth building: every layer has a weight at least.

    Args:
        name: What the user called it.
        config: Its configuration.
        weights: Of its files.

    Raises:
        ModelError: The configuration has more layers than the files have weights.
    """
    layers = getattr(config, "num_hidden_layers", None)
    if isinstance(layers, int) and layers > len(weights):
        raise ModelError(
            f"config.json of {name!r} has {layers} layers (num_hidden_layers), but its files hold"
            f" {len(weights)} weights in all; correct it, or copy the whole model"
        )


def fit_of_names(kind: Any, config: Any, weights: Mapping[str, Tensor]) -> WeightFit:
    """How weights of these names and shapes would load, as transformers itself says.

    Args:
        kind: A class of transformers' automatic ones.
        config: The model's configuration.
        weights: On the meta device, as `read_headers` gives them and `unwrapped` renames them.
    """
    model, facts = load_named(kind, config, weights, dtype=torch.float32, device_map={"": "meta"})
    return fit_of(model, with_shared_biases(model, facts))


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
    kind: Any, config: Any, weights: Mapping[str, Tensor], **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A model of weights under their names, and what transformers says of the loading."""
    with quiet_transformers():
        with torch.device("meta"):
            own = type(kind.from_config(config))
        loaded: tuple[PreTrainedModel, dict[str, Any]] = own.from_pretrained(
            None,
            config=config,
            state_dict=dict(weights),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    return loaded


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
    unexpected = [n for n in facts["unexpected_keys"] if n.split(".")[-1] not in _COMPUTED]
    reshaped = {(n, tuple(there), tuple(wanted)) for n, there, wanted in facts["mismatched_keys"]}
    return WeightFit(
        described=len(body),
        missing=_ordered(missing & body),
        missing_in_head=_ordered(missing_in_head),
        head_in_part=bool(missing_in_head) and bool(head - missing - tied),
        unexpected=_ordered(unexpected),
        unplaced=_ordered(name for name in unexpected if in_body(name)),
        prefix=_prefix_of(unexpected, _with_and_without(missing, model.base_model_prefix)),
        reshaped=tuple(sorted(found for found in reshaped if found[0] in body | head)),
        layers=getattr(model.config, "num_hidden_layers", None),
    )


def unwrapped(name: str, weights: Iterable[str]) -> dict[str, str]:
    """The weights' names without what wrappers of a model left in them, and what they were.

    Args:
        name: What the user called the model.
        weights: Names in its files.

    Raises:
        ModelError: Two weights would get the same name.
    """
    found: dict[str, str] = {}
    for weight in weights:
        plain = _WRAPPERS.sub("", weight)
        if plain in found:
            raise ModelError(
                f"{name!r} holds both {found[plain]} and {weight}, which are one weight of two"
                " wrappings; save the model anew"
            )
        found[plain] = weight
    return found


def wrapping_note(name: str, renamed: Mapping[str, str]) -> str | None:
    """That names were unwrapped; None where none was."""
    wrapped = [weight for plain, weight in renamed.items() if plain != weight]
    if not wrapped:
        return None
    words = sorted({found.group() for weight in wrapped for found in _WRAPPERS.finditer(weight)})
    return (
        f"{len(wrapped)} of the {len(renamed)} weights of {name!r} were saved from within a"
        f" wrapper ({', '.join(words)} in their names); it is left out"
    )


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Layer 2 stands before layer 10."""
    return tuple(
        sorted(
            names,
            key=lambda name: [
                (0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split(".")
            ],
        )
    )


def _numbers(names: Iterable[str]) -> set[int]:
    """The layers that names speak of."""
    found = (re.search(r"(?<![^.])\d+(?![^.])", name) for name in names)
    return {int(match.group()) for match in found if match}


def _with_and_without(names: set[str], prefix: str) -> set[str]:
    """Names as they are in a model with a head, and in its body alone."""
    plain = {name.removeprefix(f"{prefix}.") for name in names}
    return names | plain | {f"{prefix}.{name}" for name in plain}


def _prefix_of(names: Sequence[str], wanted: set[str]) -> str:
    """With what all names begin, where some of them are wanted without it."""
    parts = [name.split(".") for name in names]
    prefix = ""
    for number, here in enumerate(zip(*parts, strict=False)):
        if len(set(here)) > 1:
            break
        prefix += f"{here[0]}."
        if any(".".join(name[number + 1 :]) in wanted for name in parts):
            return prefix
    return ""
