"""Which signals a cache stores for what objectives need, known before the teacher runs.

Of queries, keys and values their common input is stored where that is smaller; the frozen maps that
compute them from it are stored once.
"""

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..activations import PREDICTIONS, Name, Needs, OutputMap
from ..models.architecture import Architecture
from ..models.hooks import runs_of_layers
from ..models.modules import submodule
from ..models.projections import projections_of, split_projection
from ..models.shapes import head_counts
from .manifest import Kind
from .row_records import PREDICTIONS_AS

_PROJECTED = ("queries", "keys", "values")


def stored_names(
    needs: Needs, kind: Kind, model: PreTrainedModel, architecture: Architecture
) -> set[Name]:
    """The signals to store for such needs.

    Args:
        needs: Of the objectives.
        kind: How predictions are stored.
        model: The teacher, or one of its shape without weights.
        architecture: Where its parts are.
    """
    found: set[Name] = set()
    for name in needs.tensors():
        if name == PREDICTIONS:
            found.update(PREDICTIONS_AS[kind.logits])
        elif name[0] in _PROJECTED and _stores_input(name[1], needs, model, architecture):
            found.add(("entered", name[1]))
        else:
            found.add(name)
    return found


def stored_maps(
    needs: Needs, model: PreTrainedModel, architecture: Architecture
) -> dict[Name, OutputMap]:
    """The maps to queries, keys and values whose input is stored in their place, in order."""
    return {
        (kind, layer): _maps_of(layer, model, architecture)[kind]
        for kind, layer in sorted(needs.tensors())
        if kind in _PROJECTED and _stores_input(layer, needs, model, architecture)
    }


def _stores_input(
    layer: int, needs: Needs, model: PreTrainedModel, architecture: Architecture
) -> bool:
    """Whether a layer's queries, keys and values are stored as their common input."""
    maps = _maps_of(layer, model, architecture)
    kinds = [kind for kind in _PROJECTED if (kind, layer) in needs.tensors()]
    if any(kind not in maps for kind in kinds):
        return False
    widths = [len(maps[kind][0]) for kind in kinds]
    return sum(widths) > maps[kinds[0]][0].shape[1]


def _maps_of(
    layer: int, model: PreTrainedModel, architecture: Architecture
) -> dict[str, OutputMap]:
    """The linear maps of a layer's attention by kind; other projections are left out."""
    here, _ = runs_of_layers(model, architecture)[layer]
    heads = head_counts(model.config, architecture)
    maps: dict[str, OutputMap] = {}
    for projection in projections_of(architecture):
        found = _linear(submodule(here, projection.path)) if projection.linear else None
        if found is None:
            continue
        weights = split_projection(found.weight.mT, projection, architecture, heads)
        biases: dict[str, Tensor] = {}
        if found.bias is not None:
            biases = split_projection(found.bias, projection, architecture, heads)
        maps |= {kind: OutputMap(weights[kind].mT, biases.get(kind)) for kind in projection.wanted}
    return maps


def _linear(module: nn.Module) -> OutputMap | None:
    if isinstance(module, nn.Linear):
        return OutputMap(
            module.weight.detach(), None if module.bias is None else module.bias.detach()
        )
    if isinstance(module, Conv1D):
        return OutputMap(module.weight.detach().mT, module.bias.detach())
    return None
