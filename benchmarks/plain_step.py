"""Losses as typical example code computes them: everything is materialized, for autograd."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from limbeck.models.families.lookup import architecture_of
from limbeck.models.modules import submodule


def projections(model: Any, tokens: Any) -> list[Tensor]:
    """Queries, keys and values of the last layer, from all outputs of the model."""
    architecture = architecture_of(model.config)
    output = model.base_model(
        input_ids=tokens.input_ids,
        attention_mask=tokens.mask.long(),
        output_hidden_states=True,
        output_attentions=model.config._attn_implementation == "eager",
    )
    layer = submodule(model.base_model, architecture.layers)[-1]
    states = output.hidden_states[-2]
    paths = (architecture.query, architecture.key, architecture.value)
    return [submodule(layer, path)(states) for path in paths]


def divergence(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Mean over real tokens of the relations' divergence, all relations at once."""

    def relations(vectors: Tensor) -> Tensor:
        split = vectors.reshape(*vectors.shape[:2], heads, -1).transpose(1, 2)
        scores = split @ split.mT / split.shape[-1] ** 0.5
        low = torch.finfo(scores.dtype).min
        return log_softmax(scores.masked_fill(~mask[:, None, None, :], low), dim=-1)

    found = kl_div(relations(student), relations(teacher), reduction="none", log_target=True)
    return found.sum(-1).mean(1)[mask].mean()


def output_divergence(student: Any, teacher: Any, tokens: Any) -> Tensor:
    """Mean over tokens of the divergence of output distributions, all logits at once."""
    with torch.no_grad():
        theirs = teacher(input_ids=tokens.input_ids, attention_mask=tokens.mask.long()).logits
    mine = student(input_ids=tokens.input_ids, attention_mask=tokens.mask.long()).logits
    logs = [log_softmax(logits, dim=-1) for logits in (mine, theirs)]
    found = kl_div(*logs, reduction="none", log_target=True)
    return found.sum(-1)[tokens.mask].mean()


def relations_divergence(student: Any, teacher: Any, tokens: Any, heads: int) -> Tensor:
    """The sum of the divergences of the relations of queries, keys and values."""
    with torch.no_grad():
        theirs = projections(teacher, tokens)
    pairs = zip(projections(student, tokens), theirs, strict=True)
    return torch.stack([divergence(mine, other, tokens.mask, heads) for mine, other in pairs]).sum()
