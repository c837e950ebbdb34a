"""Models, loaded from where they lie.

Only safetensors are read, and no code that comes with a model is run.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedModel,
)

from ..errors import ModelError, first_line
from .architecture import Architecture
from .locate import locate
from .quiet import quiet_transformers
from .stored_weights import keep_stored
from .tied_head import has_head_of_its_own
from .weight_files import weight_files
from .weight_fit import WeightFit, fit_of, load_named, not_finite, with_shared_biases
from .weight_plan import restore_exactly, weight_plan

_ATTENTION_DROPOUT = {"attention_probs_dropout_prob", "attention_dropout"}


def load_config(name: str) -> Any:
    """The transformers configuration of a model.

    Raises:
        ModelError: It cannot be had; the message says why.
    """
    place = locate(name)
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # whatever the library raises at a field that it does not expect
        raise ModelError(
            f"cannot read the configuration of {name!r}: {_reason(error)}. Give a transformers"
            " folder, or a hub name where the hub can be reached"
        ) from error
    if getattr(config, "tie_word_embeddings", False) and has_head_of_its_own(place, config):
        config.tie_word_embeddings = False
    return config


def load_model(
    name: str, *, architecture: Architecture, with_head: bool | None = None, stored: bool = False
) -> PreTrainedModel:
    """A model in evaluation mode, which computes in float32.

    Args:
        name: As for `locate`.
        architecture: Tells which modules are the vocabulary head.
        with_head: True asks for the vocabulary head, False leaves it away, None
            takes it if the weights are there, and warns where only some are.
        stored: Weights keep the precision of their file, and are widened where they are used;
            for a model that is not trained.

    Raises:
        ModelError: It cannot be loaded, or ``with_head`` is True and the
            weights of the vocabulary head are not in it.
    """
    if with_head is False:
        return load_body(name, stored=stored)
    kind = language_model_class(causal=architecture.causal)
    model, fit = _load(kind, load_config(name), name, stored=stored)
    if model is not None and fit and not fit.missing_in_head:
        return model
    if with_head and fit and fit.head_in_part:
        raise ModelError(fit.problem(name, head_in_part=False))
    if with_head:
        raise ModelError(no_head(name))
    if fit and (note := fit.head_note(name)):
        warnings.warn(note, stacklevel=2)
    return load_body(name, stored=stored)


def load_with_head(name: str, *, architecture: Architecture, seed: int) -> PreTrainedModel:
    """A model with a vocabulary head, of random weights where it has none; otherwise `load_model`.

    Args:
        name: As for `locate`.
        architecture: Its family's.
        seed: Decides the weights that are missing.

    Raises:
        ModelError: It cannot be loaded, or has a part of a vocabulary head.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kind = language_model_class(causal=architecture.causal)
        model, fit = _load(kind, load_config(name), name)
    if model is None or fit is None:
        raise ModelError(f"transformers has no model with a vocabulary head for {name!r}")
    if problem := fit.problem(name, head_in_part=False):
        raise ModelError(problem)
    return model


def no_head(name: str) -> str:
    """That a model has no vocabulary head, and how it gets one."""
    return (
        f"{name!r} has no trained vocabulary head, which labels and output distributions need;"
        " train one by a run with `labels` alone whose student is a copy of it"
        " (recipes/minilm_head.yaml is one), and name that run's student as the teacher"
    )


def language_model_class(*, causal: bool) -> Any:
    """The transformers class with a vocabulary head: of decoders, or of encoders."""
    return AutoModelForCausalLM if causal else AutoModelForMaskedLM


def load_body(
    name: str, *, attention_dropout: bool = True, stored: bool = False
) -> PreTrainedModel:
    """A model without any head, of any architecture, in evaluation mode.

    Args:
        name: As for `locate`.
        attention_dropout: False leaves dropout out of the attention, which
            takes a processor off its fast path.
        stored: As for `load_model`.

    Raises:
        ModelError: It cannot be loaded.
    """
    config = load_config(name)
    if not attention_dropout:
        for field in _ATTENTION_DROPOUT & config.to_dict().keys():
            setattr(config, field, 0.0)
    model, _ = _load(AutoModel, config, name, stored=stored)
    if model is None:
        raise ModelError(f"transformers has no model class for {name!r}")
    return model


def _load(
    kind: Any, config: Any, name: str, *, stored: bool = False
) -> tuple[PreTrainedModel | None, WeightFit | None]:
    """A model, and what of it was not in its files; neither where there is no such class.

    Raises:
        ModelError: It cannot be loaded, or its body and its configuration do not fit together.
    """
    place = locate(name)
    files = weight_files(place, download=True) or []
    plan = weight_plan(name, kind, config, files)
    if plan is None:
        return None, None
    if problem := plan.problem(name):
        raise ModelError(problem)
    precision = plan.precision if stored else torch.float32
    try:
        if plan.note:
            warnings.warn(plan.note, stacklevel=3)
            weights = _read(files, plan.renamed)
            model, facts = load_named(plan.own, config, weights, dtype=precision)
        else:
            # Missing heads are expected and told apart below; transformers' table is noise.
            with quiet_transformers():
                model, facts = kind.from_pretrained(
                    place,
                    config=config,
                    dtype=precision,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                )
    except Exception as error:  # likewise
        raise ModelError(
            f"cannot load {name!r}: {first_line(error)}. Give a transformers folder with"
            " safetensors, or a hub name where the hub can be reached"
        ) from error
    if precision != torch.float32:
        keep_stored(model)
        restore_exactly(model, plan.exact, files)
    fit = fit_of(model, with_shared_biases(model, facts))
    if problem := fit.problem(name) or not_finite(name, model):
        raise ModelError(problem)
    model.train(False)
    return model, fit


def _read(files: Sequence[Path], renamed: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights by their plain names, still on disk until they are used."""
    found: dict[str, Tensor] = {}
    for file in files:
        found |= load_file(file)
    return {plain: found[weight] for plain, weight in renamed.items()}


def _reason(error: BaseException) -> str:
    """In one line: which field it is stands in the first line, and what is wrong in the second."""
    lines = [line.strip() for line in str(error).strip().splitlines()[:2]]
    return (
        " ".join(lines if lines and lines[0].endswith(":") else lines[:1]) or type(error).__name__
    )
