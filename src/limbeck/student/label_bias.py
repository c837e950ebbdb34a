"""Where a new head of several labels for a text begins: at how often each label holds.

A head that begins at one half for every label, of which few hold, first learns that nearly none
does: all outputs fall together, which small models do by hidden states that say nothing of their
text any more.

Source: Lin et al. 2017, Focal Loss, arXiv:1708.02002, sections 3.3 and 4.1.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..models.task_heads import TaskHead


def log_odds(multi_hot: Float[Tensor, "rows classes"]) -> Float[Tensor, " classes"]:
    """The logit of how often each label holds; where nothing is known, of one label for a text.

    Args:
        multi_hot: 1 for each label that holds, 0 for others; NaN in rows that are not known.

    >>> log_odds(torch.tensor([[1.0, 0.0]] * 100)).round()
    tensor([ 5., -6.])
    """
    known = multi_hot[multi_hot.isfinite().all(-1)]
    rows, classes = known.shape
    # A row that is half a guess keeps labels that always or never hold finite.
    shares = (known.sum(0) + 1 / (classes + 1)) / (rows + 1)
    return shares.logit()


@torch.no_grad()
def set_output_bias(
    model: PreTrainedModel, head: TaskHead, values: Float[Tensor, " classes"]
) -> None:
    """Set the biases of a head's outputs; one without biases stays as it is.

    Args:
        model: With the head; it is changed in place.
        head: Its labels.
        values: One for each of them.
    """
    inside = {id(module) for module in model.base_model.modules()}
    outputs = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear)
        and id(module) not in inside
        and module.out_features == len(head.labels)
    ]
    if outputs and outputs[-1].bias is not None:
        outputs[-1].bias.copy_(values)
