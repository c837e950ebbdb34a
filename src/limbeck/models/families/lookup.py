"""The architecture of a model: its family's row of the table, or a proposal that is proven."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, AutoConfig

from ...errors import ModelError, first_line
from ..architecture import Architecture
from . import ARCHITECTURES
from .encoders import DEBERTA_WITH_LM_PREDICTIONS
from .proof import Proof, prove
from .proposal import as_yaml
from .tiny import tiny_model

_EXAMPLE = (
    "teacher: {model: ..., architecture: {layers: encoder.layer, query: attention.self.query,"
    " key: ..., value: ..., head: [cls]}}"
)


def architecture_of(config: Any) -> Architecture:
    """The architecture of a model, by its transformers configuration.

    A type that is not in the table is looked at once in a process, which takes a second or a few.

    Raises:
        ModelError: The family is not in the table, and the row that is proposed for it does not
            hold; the message has the row as a recipe would give it.
    """
    row = ARCHITECTURES.get(config.model_type)
    if row is None:
        proof = proof_of(config)
        if proof.architecture is None or proof.refused:
            raise ModelError(refusal(config.model_type, proof))
        return proof.architecture
    if config.model_type == "deberta-v2" and not config.legacy:
        return DEBERTA_WITH_LM_PREDICTIONS
    if getattr(config, "alibi", False):  # Falcon in either form
        return replace(row, positions="alibi", separable_documents=False)
    return row


def architecture_of_type(model_type: str) -> Architecture:
    """The architecture of a family, by transformers' name of it.

    Raises:
        ModelError: transformers does not know it; or as `architecture_of`.
    """
    return architecture_of(config_of_type(model_type))


def config_of_type(model_type: str) -> Any:
    """The configuration that transformers gives a family where none of its fields is set.

    Raises:
        ModelError: transformers does not know the family, or has no sizes for it.
    """
    if model_type not in CONFIG_MAPPING:
        raise ModelError(
            f"transformers {transformers.__version__} knows no model_type {model_type!r}; limbeck"
            f" knows {', '.join(sorted(ARCHITECTURES))}, and looks at other types that"
            " transformers has"
        )
    try:
        return AutoConfig.for_model(model_type)
    except Exception as error:  # of many types, where fields must be given
        raise ModelError(
            f"transformers has no default sizes for {model_type!r} ({first_line(error)}); give a"
            " model of this type"
        ) from error


def proof_of(config: Any) -> Proof:
    """What holds of the row that is proposed for a model's type."""
    fields = {name: v for name, v in config.to_dict().items() if name != "_name_or_path"}
    return _proof_of(_Config(repr(sorted(fields.items(), key=lambda item: item[0])), config))


def refusal(model_type: str, proof: Proof) -> str:
    """Why no row could be used, with that which was proposed."""
    row = proof.architecture
    shown = _EXAMPLE if row is None else as_yaml(row)
    found = "no row could be proposed for it" if row is None else "the row proposed for it fails"
    return (
        f"the architecture {model_type!r} is not known (known:"
        f" {', '.join(sorted(ARCHITECTURES))}), and {found}: {proof.refused}. For a teacher, and"
        f" for a student of the same"
        f" architecture, give module paths that are right in the recipe, as `{shown}`"
    )


@dataclass(frozen=True)
class _Config:
    """A hashable configuration: two are equal where their texts are."""

    text: str
    built: Any = field(compare=False)


@lru_cache(maxsize=64)
def _proof_of(config: _Config) -> Proof:
    try:
        tiny = tiny_model(config.built)
    except Exception as error:  # of many types, from configurations and models of other people
        return Proof(None, refused=first_line(error).split(". ")[0])
    return prove(tiny)
