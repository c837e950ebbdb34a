"""How the files of a model will load, decided from their headers before a weight is read."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from ..errors import ModelError, first_line
from .auto_classes import empty_model
from .locate import GGUF
from .low_rank_loading import QUANT_METHOD
from .quiet import quiet_transformers
from .weight_files import PRECISIONS, Header, KeptConfig, State, first_few, read_headers, state_of
from .weight_fit import COMPUTED, WeightFit, check_layers, fit_of, load_named, with_shared_biases
from .weight_names import in_order, unwrapped, wrapping_note

# The configurations for which each of transformers' automatic classes has a model.
_CONFIGURATIONS: dict[Any, Any] = {
    AutoModel: MODEL_MAPPING,
    AutoModelForCausalLM: MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForMaskedLM: MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForSequenceClassification: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForTextEncoding: MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoModelForTokenClassification: MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
}

_BITS_AND_BYTES = "bitsandbytes"  # its keys in transformers' table have the number of bits, too


@dataclass(frozen=True)
class WeightPlan:
    """How the files of a model will load.

    Attributes:
        own: transformers' class of the model.
        fit: The differences between weights and configuration.
        renamed: Names of the weights without the parts of wrappers, each with its original name.
        note: A note that names were changed; None where none were.
        wrong_types: Weights whose type is no floating-point number, with their type.
        precision: The precision of all matrices and tables, or float32 where they differ.
        exact: Parameters with one axis that the files hold in another precision: each name in
            the model with its name in the files.
        gguf: The GGUF file that the model is read from; None where it is in safetensors.
    """

    own: type[PreTrainedModel]
    fit: WeightFit
    renamed: Mapping[str, str]
    note: str | None
    wrong_types: Mapping[str, str]
    precision: torch.dtype
    exact: Mapping[str, str]
    gguf: Path | None = None

    def problem(self, name: str, *, head_in_part: bool = True) -> str | None:
        """Why the model cannot be used; None where it can. Arguments as for `WeightFit.problem`."""
        if not self.wrong_types:
            said = self.fit.problem(name, head_in_part=head_in_part)
            return said.replace("config.json", "its header") if said and self.gguf else said
        types = first_few(
            f"{weight} is {self.wrong_types[weight]}" for weight in in_order(self.wrong_types)
        )
        return (
            f"{name!r} holds {len(self.wrong_types)} weights of types that are not read"
            f" ({', '.join(PRECISIONS)} are): {types}. Such a model is quantized, and its numbers"
            " mean nothing without their scales; dequantize it with the tool that quantized it,"
            " and save it in bfloat16"
        )


def weight_plan(name: str, kind: Any, config: Any, files: Sequence[Path]) -> WeightPlan | None:
    """How files load into a model; None where transformers has no such class for it.

    Args:
        name: The name that the user gave to the model.
        kind: One of transformers' automatic classes.
        config: The model's configuration.
        files: The files of its weights.

    Raises:
        ModelError: A file is damaged, or the configuration describes no model.
    """
    return _in_state(name, kind, KeptConfig.of(config), state_of(files))


# Cached, because the files of a model are checked several times before they are loaded, and those
# of a study's teacher for every arm.
@lru_cache(maxsize=64)
def _in_state(name: str, kind: Any, read: KeptConfig, state: State) -> WeightPlan | None:
    config, files = read.built, [file for file, _, _ in state]
    file = next((file for file in files if file.suffix == GGUF), None)
    if file:
        from . import gguf  # needs the extra `gguf`
    headers = {} if file else read_headers(files)
    check_layers(name, config, gguf.gguf_header(file).tensors if file else headers)
    if type(config) not in _CONFIGURATIONS[kind]:
        return None
    try:
        with quiet_transformers():
            empty = empty_model(kind, config)
        base, described = empty.base_model_prefix, empty.state_dict()
        headers = gguf.gguf_weights(name, file, empty) if file else headers
        renamed = unwrapped(name, headers, base=base, described=described)
        given = {plain: headers[weight] for plain, weight in renamed.items()}
        model, facts = load_named(
            type(empty),
            config,
            {key: torch.empty(header.shape, device="meta") for key, header in given.items()},
            dtype=torch.float32,
            device_map={"": "meta"},
        )
    except ModelError:
        raise
    except Exception as error:  # transformers raises errors of many types for unexpected fields
        reason = first_line(error).rstrip(".")
        raise ModelError(
            f"cannot build {name!r} as its config.json says: {reason}. Install what is missing,"
            " correct config.json, or copy the model again"
        ) from error
    fit = fit_of(model, with_shared_biases(model, facts))
    used = _used(model, given, facts["unexpected_keys"])
    wrong = {} if _quantized(config) else _wrong_types(used)
    precision, exact = _precision(model, used)
    exact = {parameter: renamed[weight] for parameter, weight in exact.items()}
    note = gguf.gguf_note(name, file) if file else wrapping_note(name, renamed)
    return WeightPlan(type(empty), fit, renamed, note, wrong, precision, exact, file)


def restore_exactly(
    model: PreTrainedModel, exact: Mapping[str, str], files: Sequence[Path]
) -> None:
    """Load some parameters again, in float32, in place.

    Args:
        model: The model as transformers loaded it in one precision.
        exact: As in `WeightPlan`.
        files: The files of its weights.
    """
    for file in files if exact else ():
        with safe_open(file, framework="pt") as weights:
            there = set(weights.keys())
            for parameter, weight in exact.items():
                if weight in there:
                    value: Tensor = weights.get_tensor(weight)
                    model.get_parameter(parameter).data = value.float()


def _used(
    model: PreTrainedModel, given: Mapping[str, Header], unexpected: Iterable[str]
) -> dict[str, Header]:
    """The weights in the files that become parameters: no buffers, no unused heads."""
    prefix = f"{model.base_model_prefix}."
    parameters = {name.removeprefix(prefix) for name, _ in model.named_parameters()}
    left = {name.removeprefix(prefix) for name in unexpected}
    left |= {name.removeprefix(prefix) for name, _ in model.named_buffers()}
    ignored = model._keys_to_ignore_on_load_unexpected or ()

    def becomes_one(name: str) -> bool:
        plain = name.removeprefix(prefix)
        if plain in parameters:
            return True
        computed = plain.split(".")[-1] in COMPUTED or plain in left
        return not computed and not any(re.search(pattern, name) for pattern in ignored)

    return {name: header for name, header in given.items() if becomes_one(name)}


def _wrong_types(used: Mapping[str, Header]) -> dict[str, str]:
    return {name: header.kind for name, header in used.items() if header.kind not in PRECISIONS}


def _quantized(config: Any) -> bool:
    """Whether the model is quantized by a method that transformers supports.

    Of others it loads the stored numbers as they are, without their scales.
    """
    said = getattr(config, "quantization_config", None)
    method = said.get("quant_method") if isinstance(said, dict) else said and said.quant_method
    return method == _BITS_AND_BYTES or (
        method in AUTO_QUANTIZATION_CONFIG_MAPPING and method != QUANT_METHOD
    )


def _precision(
    model: PreTrainedModel, used: Mapping[str, Header]
) -> tuple[torch.dtype, dict[str, str]]:
    """The precision in which to hold matrices and tables, and parameters that need their own.

    It is float32, which holds the values of every other, unless all are in the same half
    precision.
    """
    prefix = f"{model.base_model_prefix}."
    parameters = {name.removeprefix(prefix): name for name, _ in model.named_parameters()}
    tied = set(model.all_tied_weights_keys)
    own = {
        name: header
        for name, header in used.items()
        if parameters.get(name.removeprefix(prefix)) not in tied
    }
    kinds = {PRECISIONS.get(header.kind) for header in own.values() if len(header.shape) > 1}
    precision = kinds.pop() if len(kinds) == 1 else None
    if precision not in (torch.bfloat16, torch.float16):
        return torch.float32, {}
    others = [name for name, header in own.items() if PRECISIONS.get(header.kind) != precision]
    places = {name: parameters.get(name.removeprefix(prefix)) for name in others}
    exact = {place: name for name, place in places.items() if place is not None}
    return (precision, exact) if len(exact) == len(others) else (torch.float32, {})
