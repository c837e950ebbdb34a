"""The roles of the axes of a weight, by its name."""

from ..models.architecture import Architecture

# Roles of the outputs of the modules that read the hidden states.
ATTENTION = frozenset({"heads", "groups", "qkv", "gated_heads"})
FEED_FORWARD = frozenset({"inner", "gated"})


def axis_roles(name: str, architecture: Architecture) -> tuple[str, ...] | None:
    """The roles of the axes of a weight or bias; None where the architecture does not say."""
    stem, _, kind = name.rpartition(".")
    for ending, roles in architecture.axes:
        if name.endswith(ending):
            return roles
        if kind == "bias" and f"{stem}.weight".endswith(ending):
            return roles[-1:] if architecture.inputs_first else roles[:1]
    return None


def outputs_first_roles(name: str, architecture: Architecture) -> tuple[str, ...] | None:
    """The roles of the axes of a weight inside a layer, with outputs first in every family."""
    roles = axis_roles(name, architecture)
    return roles[::-1] if roles and architecture.inputs_first else roles


def layer_of(name: str, architecture: Architecture) -> tuple[int | None, str]:
    """The number of the layer that a weight of the body belongs to, and its name there."""
    prefix = architecture.layers + "."
    if not name.startswith(prefix):
        return None, name
    number, rest = name[len(prefix) :].split(".", 1)
    return int(number), rest
