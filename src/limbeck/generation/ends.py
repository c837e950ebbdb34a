"""Which tokens end a generated text: all that a model's files, tokenizer and chat template name.

A chat model ends its turn with another token than the one that ends a document, and names both in
`generation_config.json`; transformers stops at either of them.
"""

import copy
from pathlib import Path
from typing import Any

from transformers import (
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from ..errors import ModelError
from ..models.load import load_config
from ..models.locate import GGUF, locate
from ..models.quiet import quiet_transformers
from ..token_ids import TokenIds
from ..tokenization.chat import turn_end

_FILE = "generation_config.json"
_NAMED = 5  # ids, in a sentence


def ends_of(tokenizer: PreTrainedTokenizerFast, name: str | None = None) -> tuple[int, ...]:
    """Token ids that end a text, the tokenizer's own first; each is a token of the tokenizer.

    A model adds those that its generation configuration names, or, where that names none, those
    of its configuration file, as transformers does.

    Args:
        tokenizer: Of the model; its end of text, and what its chat template puts behind an answer.
        name: Of the model, as for `locate`; None where only the tokenizer is known.

    Raises:
        ModelError: A configuration cannot be read, or names an end that is no token id.
    """
    own = [tokenizer.eos_token_id, turn_end(tokenizer)]
    found = [end for end in own if end is not None]
    if name is not None:
        ids = TokenIds.of(tokenizer)
        found += [end for end in _named(name)[0] if _is_token(end, ids)]
    return tuple(dict.fromkeys(found))


def ends_notes(tokenizer: PreTrainedTokenizerFast, name: str) -> list[str]:
    """A sentence on ends that a model's files name but that cannot be generated, or nothing.

    Args:
        tokenizer: Of the model.
        name: As for `ends_of`.

    Raises:
        ModelError: As `ends_of` says.
    """
    ids = TokenIds.of(tokenizer)
    named, place = _named(name)
    never = [end for end in dict.fromkeys(named) if end >= 0 and not _is_token(end, ids)]
    if not never:
        return []
    shown = ", ".join(f"{end:.4g}" if end > 10**12 else str(end) for end in never[:_NAMED])
    more = ", ..." if len(never) > _NAMED else ""
    ends = ", ".join(map(str, ends_of(tokenizer, name))) or "no token"
    return [
        f"{place} names {shown}{more} as an end of texts (eos_token_id), which is no token of its"
        f" tokenizer ({len(ids)} tokens, the largest id {ids.end - 1}) and is never generated;"
        f" texts end at {ends}"
    ]


def _is_token(end: int, ids: TokenIds) -> bool:
    return 0 <= end < ids.end and end not in ids.absent  # -1 stands for none


def _named(name: str) -> tuple[list[int], str]:
    """The ends that the files of a model name, and which file does."""
    place = f"{_FILE} of {name!r}"
    if found := _ids_in(_generation_config(name), place):
        return found, place
    place = f"config.json of {name!r}"
    # Refuses what is no configuration, saying why; of a model on a server there are no weights.
    config = load_config(name, weights=False)
    if locate(name, weights=False).endswith(GGUF):
        return _ids_in(config.eos_token_id, place), repr(name)
    with quiet_transformers():
        # As the file has it: a configuration's class has an end of its own where it names none.
        fields, _ = PretrainedConfig.get_config_dict(locate(name, weights=False))
    return _ids_in(fields.get("eos_token_id"), place), place


def _ids_in(given: Any, place: str) -> list[int]:
    """An `eos_token_id`, which may be one id, a list of them, or none, as a list.

    Raises:
        ModelError: It is something else.
    """
    ids = given if isinstance(given, (list, tuple)) else [] if given is None else [given]
    if wrong := [end for end in ids if not isinstance(end, int) or isinstance(end, bool)]:
        raise ModelError(
            f"{place} has the eos_token_id {wrong[0]!r}; give a token id, or a list of them"
        )
    return list(ids)


def save_with_ends(model: PreTrainedModel, folder: Path, ends: tuple[int, ...]) -> None:
    """Write a decoder, of which both configurations name these ends: transformers stops at each.

    Args:
        model: A decoder.
        folder: Where it is written.
        ends: At least one token id.
    """
    value = ends[0] if len(ends) == 1 else list(ends)
    model.config.eos_token_id = value
    model.save_pretrained(folder)
    if model.can_generate() and model.generation_config is not None:  # a body has none
        generation = copy.deepcopy(model.generation_config)
        generation.eos_token_id = value
        save_generation(generation, folder)


def save_generation(generation: GenerationConfig, folder: Path) -> None:
    """Write a generation configuration, whatever else it says.

    Its own `save_pretrained` refuses what many published models have, as a temperature without
    sampling, once any field has changed.
    """
    generation.to_json_file(folder / _FILE, keys_to_pop=["compile_config"])


def _generation_config(name: str) -> Any:
    """Its `eos_token_id`; None where a model has no such file, as many have not."""
    place = locate(name, weights=False)
    try:
        with quiet_transformers():
            return GenerationConfig.from_pretrained(place).eos_token_id
    except Exception as error:  # whatever the library raises at a field that it does not expect
        if not Path(place, _FILE).exists():
            return None
        raise ModelError(
            f"cannot read {Path(place, _FILE)}: {error}. Copy it again, or remove it"
        ) from error
