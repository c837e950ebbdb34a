"""Models and tokenizers, loaded from where they lie.

Only safetensors are read, and no code that comes with a model is run.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from .architectures import Anatomy
from .errors import ModelError
from .model_folders import locate

_ATTENTION_DROPOUT = {"attention_probs_dropout_prob", "attention_dropout"}


def load_config(name: str) -> Any:
    """The transformers configuration of a model.

    Raises:
        ModelError: It cannot be had; the message says why.
    """
    place = locate(name)
    try:
        return AutoConfig.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # whatever the library raises at a field that it does not expect
        raise ModelError(
            f"cannot read the configuration of {name!r}: {_first_line(error)}. Give a transformers"
            " folder, or a hub name where the hub can be reached"
        ) from error


def load_model(name: str, *, anatomy: Anatomy, with_head: bool | None = None) -> PreTrainedModel:
    """A model in float32 and evaluation mode.

    Args:
        name: As for `locate`.
        anatomy: Tells which modules are the vocabulary head.
        with_head: True asks for the vocabulary head, False leaves it away, None
            takes it if the weights are there.

    Raises:
        ModelError: It cannot be loaded, or ``with_head`` is True and the
            weights of the vocabulary head are not in it.
    """
    if with_head is False:
        return load_body(name)
    model, missing = _load(language_model_class(causal=anatomy.causal), load_config(name), name)
    in_head = {path.split(".")[0] for path in anatomy.head}
    if model is not None and not any(key.split(".")[0] in in_head for key in missing):
        return model
    if with_head:
        raise ModelError(no_head(name))
    return load_body(name)


def load_with_head(name: str, *, anatomy: Anatomy, seed: int) -> PreTrainedModel:
    """A model with a vocabulary head, of random weights where it has none; otherwise `load_model`.

    Args:
        name: As for `locate`.
        anatomy: Its family's.
        seed: Decides the weights that are missing.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, _ = _load(language_model_class(causal=anatomy.causal), load_config(name), name)
    if model is None:
        raise ModelError(f"transformers has no model with a vocabulary head for {name!r}")
    return model


def has_vocabulary_head(name: str, *, anatomy: Anatomy) -> bool | None:
    """Whether a model's weights have the vocabulary head, from their names alone.

    None where it cannot be told, as for a name on the hub that has not been loaded yet.
    """
    names: set[str] = set()
    files = sorted(Path(locate(name)).glob("*.safetensors"))
    if not files:
        index = try_to_load_from_cache(name, "model.safetensors.index.json")
        if isinstance(index, str):
            names |= set(json.loads(Path(index).read_text("utf-8"))["weight_map"])
        elif isinstance(whole := try_to_load_from_cache(name, "model.safetensors"), str):
            files = [Path(whole)]
        else:
            return None
    for file in files:
        try:
            with safe_open(file, framework="pt") as weights:
                names |= set(weights.keys())
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is damaged ({error}); copy the model anew") from error
    tied = anatomy.causal and bool(load_config(name).tie_word_embeddings)
    in_head = {path.split(".")[0] for path in anatomy.head}
    return tied or any(key.split(".")[0] in in_head for key in names)


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


def load_body(name: str, *, attention_dropout: bool = True) -> PreTrainedModel:
    """A model without any head, of any architecture, in float32 and evaluation mode.

    Args:
        name: As for `locate`.
        attention_dropout: False leaves dropout out of the attention, which
            takes a processor off its fast path.

    Raises:
        ModelError: It cannot be loaded.
    """
    config = load_config(name)
    if not attention_dropout:
        for field in _ATTENTION_DROPOUT & config.to_dict().keys():
            setattr(config, field, 0.0)
    model, _ = _load(AutoModel, config, name)
    if model is None:
        raise ModelError(f"transformers has no model class for {name!r}")
    return model


def _load(kind: Any, config: Any, name: str) -> tuple[PreTrainedModel | None, list[str]]:
    try:
        # Missing heads are expected and told apart by the caller; transformers' table is noise.
        with quiet_transformers():
            model, facts = kind.from_pretrained(
                locate(name),
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            return None, []
        raise ModelError(f"cannot load {name!r}: {_first_line(error)}") from error
    except Exception as error:  # likewise
        raise ModelError(
            f"cannot load {name!r}: {_first_line(error)}. Give a transformers folder with"
            " safetensors, or a hub name where the hub can be reached"
        ) from error
    model.eval()
    return model, sorted(facts["missing_keys"])


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within it transformers prints neither bars nor warnings; errors still come."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model.

    Raises:
        ModelError: There is none, or only a slow one.
    """
    place = locate(name, tokenizer_only=True)
    folder = Path(place)
    # transformers would make an empty tokenizer up where there is none.
    known = ("tokenizer.json", "vocab.*", "*.model")
    if folder.is_dir() and not any(list(folder.glob(pattern)) for pattern in known):
        raise ModelError(f"{name!r} has no tokenizer.json; save the model's fast tokenizer into it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        if isinstance(tokenizer, PreTrainedTokenizerFast):
            tokenizer.backend_tokenizer.encode("a \U0010fffd")  # what is not there shows here
    except BaseException as error:  # a panic in the library below is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ModelError(
            f"cannot load the tokenizer of {name!r}: {_first_line(error)}; the folder needs a"
            " tokenizer.json"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"{name!r} has only a slow tokenizer ({type(tokenizer).__name__}); save a fast one"
            " beside it (tokenizer.json)"
        )
    # Some folders keep the length and padding of their last use, which would silently cut texts.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
