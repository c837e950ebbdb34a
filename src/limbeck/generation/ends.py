"""Which tokens end a generated text: all that a model's files, tokenizer and chat template name.

A chat model ends its turn with another token than the one that ends a document, and names both in
`generation_config.json`; transformers stops at each of them.
"""

from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from ..errors import ModelError
from ..model_folders import locate
from ..pretrained import load_config
from ..quiet import quiet_transformers
from ..tokenization.chat import turn_end

_FILE = "generation_config.json"


def ends_of(tokenizer: PreTrainedTokenizerFast, name: str | None = None) -> tuple[int, ...]:
    """Token ids that end a text, the tokenizer's own first.

    Args:
        tokenizer: Of the model; its end of text, and what its chat template puts behind an answer.
        name: Of the model, as for `locate`, whose generation configuration and configuration name
            more; None where only the tokenizer is known.

    Raises:
        ModelError: A configuration cannot be read, or names an end that is no token id.
    """
    own = [tokenizer.eos_token_id, turn_end(tokenizer)]
    found = [end for end in own if end is not None]
    if name is not None:
        found += [*ids_in(_generation_config(name), f"{_FILE} of {name!r}")]
        found += [*ids_in(load_config(name), f"config.json of {name!r}")]
    return tuple(dict.fromkeys(found))


def ids_in(config: Any, place: str) -> tuple[int, ...]:
    """The `eos_token_id` of a configuration, which may be one id, a list of them, or none.

    Args:
        config: Of a model or of its generation; None names nothing.
        place: Of it, for the error.

    Raises:
        ModelError: It is something else.
    """
    given = getattr(config, "eos_token_id", None)
    ids = given if isinstance(given, (list, tuple)) else [] if given is None else [given]
    if wrong := [end for end in ids if not isinstance(end, int) or isinstance(end, bool)]:
        raise ModelError(
            f"{place} has the eos_token_id {wrong[0]!r}; give a token id, or a list of them"
        )
    return tuple(end for end in ids if end >= 0)  # -1 stands for none


def set_ends(model: PreTrainedModel, ends: tuple[int, ...]) -> None:
    """Both configurations of a model name these ends, so that transformers stops at each.

    Args:
        model: A decoder.
        ends: At least one token id.
    """
    said = ends[0] if len(ends) == 1 else list(ends)
    model.config.eos_token_id = said
    if model.can_generate() and model.generation_config is not None:  # a body has none
        model.generation_config.eos_token_id = said


def _generation_config(name: str) -> GenerationConfig | None:
    """None where a model has no such file, as many have not."""
    place = locate(name)
    try:
        with quiet_transformers():
            return GenerationConfig.from_pretrained(place)
    except (OSError, TypeError, ValueError) as error:
        if not Path(place, _FILE).exists():
            return None
        raise ModelError(
            f"cannot read {Path(place, _FILE)}: {error}. Copy it anew, or remove it"
        ) from error
