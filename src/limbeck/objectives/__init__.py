"""What "alike" means: one file, one idea, one Source line; this is the only list."""

from .contract import Objective
from .hidden import Hidden
from .labels import Labels
from .relations import Relations

OBJECTIVES: dict[str, type[Objective]] = {
    "labels": Labels,
    "relations": Relations,
    "hidden": Hidden,
}
