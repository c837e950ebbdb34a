"""What a training loop of one's own gives a loss, as tokens that objectives read."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..batch import Tokens
from ..errors import ObjectiveError

_READ = ("input_ids", "attention_mask", "labels", "token_type_ids")
IGNORED = -100  # transformers' label of a token that is not predicted


def tokens_of(inputs: Mapping[str, Tensor], *, causal: bool) -> Tokens:
    """The tokens of a batch as limbeck's objectives read them.

    Args:
        inputs: ``input_ids``, (rows, tokens), and where they are known ``attention_mask``,
            ``labels`` and ``token_type_ids`` of the same shape, as transformers' collators give
            them.
        causal: Whether a decoder reads them, whose labels transformers shifts by one.

    Returns:
        Labels stand at the token that predicts them. Without ``labels`` a decoder predicts every
        token from those before it, and an encoder predicts none.

    Raises:
        ObjectiveError: ``input_ids`` are missing, something is given that is not read, or is no
            tensor of that shape.
    """
    if "input_ids" not in inputs:
        raise ObjectiveError(f"the inputs have no `input_ids`; they have {', '.join(inputs)}")
    if unread := [name for name in inputs if name not in _READ]:
        raise ObjectiveError(
            f"the inputs have {', '.join(unread)}, which is not read; leave it out, and give"
            f" {', '.join(_READ)}"
        )
    _check_shapes(inputs)
    ids = inputs["input_ids"]
    mask = (
        inputs["attention_mask"].bool() if "attention_mask" in inputs else torch.ones_like(ids) > 0
    )
    labels = inputs.get("labels")
    if labels is None:
        labels = ids.masked_fill(~mask, IGNORED) if causal else torch.full_like(ids, IGNORED)
    if causal:
        labels = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORED)], 1)
    predicted = (labels != IGNORED) & mask
    types = inputs.get("token_type_ids")
    labels = torch.where(predicted, labels, 0)
    return Tokens(ids, mask, labels, predicted, token_type_ids=types)


def _check_shapes(inputs: Mapping[str, Tensor]) -> None:
    """See that all inputs are tensors with one number for each token.

    Raises:
        ObjectiveError: One is not.
    """
    for name, given in inputs.items():
        if not isinstance(given, Tensor):
            raise ObjectiveError(
                f"`{name}` is a {type(given).__name__}; give a tensor, (rows, tokens), as collators"
                " make"
            )
    shape = inputs["input_ids"].shape
    if len(shape) != 2:
        raise ObjectiveError(
            f"`input_ids` have the shape {tuple(shape)}; give (rows, tokens), also of a single text"
        )
    for name, given in inputs.items():
        if given.shape != shape:
            said = "; labels of whole texts are not read: leave them out" * (name == "labels")
            raise ObjectiveError(
                f"`{name}` have the shape {tuple(given.shape)}, and `input_ids` {tuple(shape)};"
                f" give one number for each token{said}"
            )
