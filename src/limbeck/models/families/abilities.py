"""What works with a model, as its row of the table and its configuration say."""

from dataclasses import dataclass
from typing import Any

from ..architecture import Architecture
from .attending import forgetting_layers, layers_with_attention


@dataclass(frozen=True)
class Abilities:
    """What works: ``yes``, ``no``, or under which condition; empty where it has no meaning.

    Attributes:
        relations: The objectives over queries, keys and values.
        hidden_states: Objectives over hidden states.
        logits: Objectives over predictions, and labels.
        copy: Initialization from teacher layers (``init_from_teacher``).
        low_rank: Low-rank layers and adapters by the names of groups (``target_modules``).
        isolate_documents: Documents in one row kept apart.
        generation: Text is generated.
        export: Export as a transformers folder.
    """

    relations: str
    hidden_states: str
    logits: str
    copy: str
    low_rank: str
    isolate_documents: str
    generation: str
    export: str


def abilities(row: Architecture, config: Any) -> Abilities:
    """What works with a model of a row and a configuration."""
    attending = layers_with_attention(config, row)
    some = len(attending) < config.num_hidden_layers
    return Abilities(
        relations="no" if not attending else "layers with attention" if some else "yes",
        hidden_states="yes",
        logits=_said(bool(row.head)),
        copy="yes" if row.axes else "same width",
        low_rank="yes" if row.axes else "by paths",
        isolate_documents=_said(row.separable_documents) if row.causal else "",
        generation=_generation(row, config) if row.causal else "",
        export="yes",
    )


def _generation(row: Architecture, config: Any) -> str:
    """Whether every layer keeps keys and values, which readers of text drop and reorder."""
    if not row.head:
        return "no"
    return "needs full attention" if forgetting_layers(config) else "yes"


def _said(works: bool) -> str:
    return "yes" if works else "no"
