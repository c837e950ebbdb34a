"""The modules of a loaded model: that at a path, parameters, and the longest text by its tables."""

import sys

from torch import nn
from transformers import PreTrainedModel

from ..errors import ModelError


def submodule(model: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path.

    Raises:
        ModelError: There is none; the message lists the modules beside it.
    """
    here, walked = model, "the model"
    for name in path.split("."):
        children = dict(here.named_children())
        if name not in children:
            raise ModelError(
                f"{walked} ({type(here).__name__}) has no module {name!r} of the path {path!r};"
                f" it has: {', '.join(children) or 'none'}. Correct the architecture's path"
            )
        here, walked = children[name], f"{walked}.{name}"
    return here


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """The number of all parameters and of those in embedding tables; tied weights count once."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    parameters = list(model.parameters())
    embeddings = sum(p.numel() for p in parameters if id(p) in tables)
    return sum(p.numel() for p in parameters), embeddings


def longest_text(model: PreTrainedModel) -> int:
    """Tokens that the model can read at once; without a limit, more than any text has."""
    limit: int = (
        getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
    )
    for name, table in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, nn.Embedding):
            # RoBERTa counts positions from the one after the padding id.
            unused = 0 if table.padding_idx is None else table.padding_idx + 1
            limit = min(limit, table.num_embeddings - unused)
    return limit
