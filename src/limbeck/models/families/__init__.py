"""Where each family of Transformers keeps its layers, projections and vocabulary head.

One row for each family. Everything that looks inside a model reads this table, so a new family
needs one more row. A model whose family is missing can be described by the same fields in a
recipe; `limbeck inspect` proposes them.
"""

from ..architecture import Architecture
from .decoders import DECODERS
from .encoders import ENCODERS

ARCHITECTURES: dict[str, Architecture] = {**ENCODERS, **DECODERS}
