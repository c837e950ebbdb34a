"""The head of a student that had none: it learns whole where the body's weights are frozen.

So does peft with the modules that it calls ``modules_to_save``.
"""

from torch import nn
from transformers import PreTrainedModel

_POOLER = "pooler"  # stands in the body, and only a classifier reads it


def head_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The modules that make a model's head, by their paths: all beside its body, and its pooler."""
    body, found = model.base_model, dict[str, nn.Module]()
    if model is not body:
        found = {name: part for name, part in model.named_children() if part is not body}
        if pooler := dict(body.named_children()).get(_POOLER):
            found[f"{model.base_model_prefix}.{_POOLER}"] = pooler
    return {path: part for path, part in found.items() if next(part.parameters(), None) is not None}


def train_head(model: PreTrainedModel) -> None:
    """Let the head learn, in place; a table that is tied to the body's stays as it is."""
    tied = {id(weight) for weight in model.get_input_embeddings().parameters()}
    for part in head_modules(model).values():
        for weight in part.parameters():
            weight.requires_grad_(id(weight) not in tied)
