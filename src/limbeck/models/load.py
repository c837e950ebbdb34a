"""Models are loaded from a folder or the hub.

Only safetensors are read, and no code that comes with a model is run.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from packaging.version import InvalidVersion, Version
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from ..errors import ModelError, first_line
from .architecture import Architecture
from .auto_classes import body_class, whole_class
from .locate import GGUF, lacks_weights, locate, nearest_folder
from .quiet import quiet_transformers
from .stored_weights import keep_stored
from .task_heads import TaskHead, head_missing, task_class
from .tied_head import has_head_of_its_own, has_lm_predictions
from .weight_files import first_few, weight_files
from .weight_fit import WeightFit, fit_of, load_named, not_finite, with_shared_biases
from .weight_plan import restore_exactly, weight_plan

_ATTENTION_DROPOUT = {"attention_probs_dropout_prob", "attention_dropout"}


def load_config(name: str, *, weights: bool = True) -> Any:
    """The transformers configuration of a model.

    Args:
        name: A folder or hub name, as for `locate`.
        weights: False also takes the configuration of a folder without weights.

    Raises:
        ModelError: It cannot be read; the message says why.
    """
    place = locate(name, weights=weights)
    if place.endswith(GGUF):
        from .gguf import gguf_config  # needs the extra `gguf`

        return gguf_config(Path(place))
    # Before transformers reads it, which guesses a missing type from the folder's name.
    if unknown := _unknown_type(name, Path(place)):
        raise ModelError(unknown)
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # transformers raises errors of many types for unexpected fields
        raise ModelError(
            f"cannot read the configuration of {name!r}: {_reason(error)}. Give a transformers"
            f" folder, or a hub name where the hub can be reached{nearest_folder(name)}"
        ) from error
    # Each forward says what the model shall give; old files have the settings of a script.
    config.return_dict, config.output_hidden_states, config.output_attentions = True, False, False
    if not weights and lacks_weights(place):
        return config
    if getattr(config, "tie_word_embeddings", False) and has_head_of_its_own(place, config):
        config.tie_word_embeddings = False
    if has_lm_predictions(place, config):
        config.legacy = False
    return config


def load_model(
    name: str, *, architecture: Architecture, with_head: bool | None = None, stored: bool = False
) -> PreTrainedModel:
    """A model in evaluation mode, which computes in float32.

    Args:
        name: A folder or hub name, as for `locate`.
        architecture: Says which modules are the vocabulary head.
        with_head: True requires the vocabulary head, False leaves it out, None loads it if the
            files have its weights, and warns where they have only some of them.
        stored: Weights keep the precision of their file and are widened where they are used;
            for a model that is not trained.

    Raises:
        ModelError: It cannot be loaded, or ``with_head`` is True and its files lack weights of
            the vocabulary head.
    """
    if with_head and not architecture.head:
        raise ModelError(no_head_known(name))
    if with_head is False or not architecture.head:
        return load_body(name, stored=stored)
    kind = whole_class(architecture)
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
    """A model with a vocabulary head, which has random weights where the files have no head.

    Args:
        name: A folder or hub name, as for `locate`.
        architecture: The architecture of its family.
        seed: Seed of the random weights.

    Raises:
        ModelError: It cannot be loaded, or its files have only some weights of the head.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, fit = _load(whole_class(architecture), load_config(name), name)
    if model is None or fit is None:
        raise ModelError(f"transformers has no model with a vocabulary head for {name!r}")
    if problem := fit.problem(name, head_in_part=False):
        raise ModelError(problem)
    return model


def load_task_model(name: str, head: TaskHead, *, stored: bool = False) -> PreTrainedModel:
    """A classifier, tagger or scoring model in evaluation mode.

    Args:
        name: A folder or hub name, as for `locate`.
        head: The head that it was saved with.
        stored: As for `load_model`.

    Raises:
        ModelError: It cannot be loaded, or its files lack weights of the head.
    """
    config = load_config(name)
    model, fit = _load(task_class(head), config, name, stored=stored)
    if model is None or fit is None:
        raise ModelError(f"{name!r}: {head_missing(head, config)}")
    if lacking := fit.missing_in_head:
        raise ModelError(
            f"{name!r} lacks {len(lacking)} weights of {head.about}: {first_few(lacking)}; copy the"
            " model again, or fine-tune it (`limbeck finetune`)"
        )
    return model


def no_head(name: str) -> str:
    """The error that a model has no vocabulary head, and how to train one."""
    return (
        f"{name!r} has no trained vocabulary head, which labels and output distributions need;"
        " train one by a run with `labels` alone whose student is a copy of it"
        " (recipes/minilm_head.yaml is one), and name that run's student as the teacher"
    )


def no_head_known(name: str) -> str:
    """The error that no vocabulary head is known of a model's family."""
    return (
        f"{name!r} is of a family of which no vocabulary head is known (`limbeck inspect` shows"
        " more), and labels and output distributions need one; use hidden_states, or another model"
    )


def load_body(
    name: str, *, attention_dropout: bool = True, stored: bool = False
) -> PreTrainedModel:
    """A model of any architecture without a head, in evaluation mode.

    Args:
        name: A folder or hub name, as for `locate`.
        attention_dropout: False disables dropout within attention, which would keep a processor
            from using its fast implementation.
        stored: As for `load_model`.

    Raises:
        ModelError: It cannot be loaded.
    """
    config = load_config(name)
    if not attention_dropout:
        for field in _ATTENTION_DROPOUT & config.to_dict().keys():
            setattr(config, field, 0.0)
    model, _ = _load(body_class(config.model_type), config, name, stored=stored)
    if model is None:
        raise ModelError(f"transformers has no model class for {name!r}")
    return model


def _load(
    kind: Any, config: Any, name: str, *, stored: bool = False
) -> tuple[PreTrainedModel | None, WeightFit | None]:
    """A model and how its weights fit; None twice where transformers has no such class for it.

    Raises:
        ModelError: It cannot be loaded, or its weights do not match its configuration.
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
        if plan.gguf:
            from .gguf import load_gguf, narrow

            model, facts = load_gguf(plan.own, config, plan.gguf)
            narrow(model, precision)
        elif plan.note:
            warnings.warn(plan.note, stacklevel=3)
            weights = _read(files, plan.renamed)
            model, facts = load_named(plan.own, config, weights, dtype=precision)
        else:
            # Missing heads are expected and reported below; transformers' table of them is noise.
            # They are random at last: what is left out is chance for all other weights before.
            with quiet_transformers(), no_init_weights():
                model, facts = kind.from_pretrained(
                    place,
                    config=config,
                    dtype=precision,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                )
    except Exception as error:  # errors of many types, as above
        raise ModelError(
            f"cannot load {name!r}: {first_line(error)}. Give a transformers folder with"
            " safetensors, or a hub name where the hub can be reached"
        ) from error
    if precision != torch.float32:
        keep_stored(model)
        restore_exactly(model, {} if plan.gguf else plan.exact, files)
    fit = fit_of(model, with_shared_biases(model, facts))
    if problem := fit.problem(name) or not_finite(name, model):
        raise ModelError(problem)
    model.train(False)
    return model, fit


def _unknown_type(name: str, folder: Path) -> str | None:
    """Why transformers cannot read a configuration whose model_type is not its own."""
    try:
        fields = json.loads((folder / "config.json").read_text("utf-8"))
        kind = fields.get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    if isinstance(kind, str) and kind in CONFIG_MAPPING:
        return None
    here = transformers.__version__
    if kind is None:
        return f"config.json of {name!r} names no model_type; copy it from the original model"
    wrote = fields.get("transformers_version")
    by = f"was written by transformers {wrote}" if wrote else "does not say what wrote it"
    newer = isinstance(wrote, str) and _is_newer(wrote, here)
    cure = (
        f"install that version (pip install 'transformers>={wrote}')"
        if newer
        else "a newer version may know it (pip install -U transformers); a type that comes with"
        " code of its own is never run here"
    )
    return (
        f"cannot read the configuration of {name!r}: transformers {here} (installed) does not know"
        f" its model_type {kind!r}; its config.json {by}: {cure}, or give a model of another type"
    )


def _is_newer(one: str, other: str) -> bool:
    try:
        return Version(one) > Version(other)
    except InvalidVersion:
        return False


def _read(files: Sequence[Path], renamed: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights by their plain names; they are memory-mapped until they are used."""
    found: dict[str, Tensor] = {}
    for file in files:
        found |= load_file(file)
    return {plain: found[weight] for plain, weight in renamed.items()}


def _reason(error: BaseException) -> str:
    """An error of transformers in one line: its first names the field, its second the problem."""
    lines = [line.strip() for line in str(error).strip().splitlines()[:2]]
    said = " ".join(lines if lines and lines[0].endswith(":") else lines[:1])
    return said.rstrip(".") or type(error).__name__
