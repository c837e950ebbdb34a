"""Every objective by the name that recipes use; this is the only list."""

from dataclasses import fields
from typing import Any

from .attention_maps import AttentionMaps
from .chunks import Chunks
from .contract import Objective
from .embeddings import Embeddings
from .hidden import Hidden
from .labels import Labels
from .mean_hidden import MeanHidden
from .output import Output
from .relations import Relations
from .uld import Uld
from .vectors import Vectors

OBJECTIVES: dict[str, type[Objective]] = {
    "labels": Labels,
    "output": Output,
    "uld": Uld,
    "chunks": Chunks,
    "hidden": Hidden,
    "mean_hidden": MeanHidden,
    "embeddings": Embeddings,
    "attention_maps": AttentionMaps,
    "relations": Relations,
    "vectors": Vectors,
}


def objective_of(kind: str, options: Any) -> Objective:
    """The objective of a name with its options, an object of `options.OPTIONS`."""
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    return OBJECTIVES[kind](**given)
