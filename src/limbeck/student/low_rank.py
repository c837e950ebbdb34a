"""Low-rank linear layers of a student, from the singular values of their weights.

A weight becomes the product of two thin matrices. Where it is whitened by the layer's inputs on
real text, the dropped singular values are exactly the lost part of the layer's output; without
whitening they are the lost part of the weight.

Source: Eckart and Young 1936; whitening, Wang et al. 2024, SVD-LLM, arXiv:2403.07378; for
distillation on long sequences Mokretsov, Tatarnikova 2025,
doi:10.17586/2226-1494-2025-25-4-737-743.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..batch import Tokens
from ..errors import StudentError
from ..models.architecture import Architecture
from ..models.low_rank_layers import LowRankLinear, low_rank_ranks, set_submodule, sizes_of
from ..models.low_rank_loading import QUANT_METHOD
from ..system.progress import told
from .axis_roles import ATTENTION, FEED_FORWARD, axis_roles

_TEXTS_AT_ONCE = 16  # of the calibration text
_DAMPING = 1e-4  # of the mean square of the inputs, so that unused directions can be inverted
_ROLES = {
    "feed_forward": FEED_FORWARD,
    "attention": ATTENTION,
    "all": FEED_FORWARD | ATTENTION,
}
Which = Literal["feed_forward", "attention", "all"]


@dataclass(frozen=True)
class Rank:
    """How the rank of a layer is chosen; one of the three is given.

    Attributes:
        number: The rank itself.
        energy: The smallest rank whose singular values keep this share of the sum of
            all squares.
        parameter_ratio: The largest rank that keeps at most this share of the layer's
            parameters.

    Raises:
        StudentError: None of the three is given, several are, or one is out of range.
    """

    number: int | None = None
    energy: float | None = None
    parameter_ratio: float | None = None

    def __post_init__(self) -> None:
        """See that one of the three is given, within its range."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            said = ", ".join(given) or "none of them"
            raise StudentError(
                f"a rank is chosen by number, energy or parameter_ratio, and {said} is given;"
                " give one of the three"
            )
        [(name, value)] = given.items()
        if name == "number" and not (isinstance(value, int) and value >= 1):
            raise StudentError(f"the rank is {value!r}; give a whole number from 1 on")
        if name != "number" and not 0 < value <= 1:
            raise StudentError(f"the {name} of a rank is {value!r}; give more than 0, at most 1")

    def of(self, values: Float[Tensor, " values"], inputs: int, outputs: int) -> int:
        """The rank of a layer with these singular values."""
        if self.number is not None:
            return self.number
        if self.parameter_ratio is not None:
            return max(1, int(self.parameter_ratio * inputs * outputs / (inputs + outputs)))
        squares = values.square().cumsum(0)
        wanted = (self.energy or 1.0) * squares[-1]
        return int((squares < wanted).sum()) + 1


def break_even(inputs: int, outputs: int) -> int:
    """The largest rank at which a low-rank layer has fewer parameters than its dense matrix.

    >>> break_even(256, 1024)
    204
    """
    return (inputs * outputs - 1) // (inputs + outputs)


def chosen_layers(
    model: PreTrainedModel, architecture: Architecture, which: Which | Sequence[str]
) -> list[str]:
    """Paths, from the body, of the linear layers inside the model's layers.

    Args:
        model: Any model of the family.
        architecture: The family's row, with the roles of its weights' axes.
        which: A role, or ends of paths such as ``mlp.up_proj``.

    Raises:
        StudentError: No layer's path ends so, the role has no layer, or there is no such role.
    """
    if isinstance(which, str) and which not in _ROLES:
        raise StudentError(
            f"{which!r} is no group of layers; give {', '.join(_ROLES)}, or a list of the ends of"
            " paths, as ['mlp.up_proj']"
        )
    linear = [
        path
        for path, module in model.base_model.named_modules()
        if path.startswith(architecture.layers + ".") and isinstance(module, (nn.Linear, Conv1D))
    ]
    inside = sorted(
        {path.removeprefix(architecture.layers + ".").split(".", 1)[1] for path in linear}
    )
    if isinstance(which, str):
        roles = _ROLES[which]
        found = [p for p in linear if roles & set(axis_roles(f"{p}.weight", architecture) or ())]
        if not found:
            raise StudentError(
                f"no linear layer is known to be of the group {which}; give a list of the ends of"
                f" paths: {', '.join(inside)}"
            )
        return found
    missing = [end for end in which if not any(_ends(path, end) for path in linear)]
    if missing:
        raise StudentError(
            f"no linear layer's path ends in {', '.join(missing)}; there are {', '.join(inside)}"
        )
    return [path for path in linear if any(_ends(path, end) for end in which)]


def _ends(path: str, end: str) -> bool:
    return path == end or path.endswith("." + end)


def factorize_layers(
    model: PreTrainedModel,
    paths: Sequence[str],
    rank: Rank,
    *,
    calibration: Sequence[Tokens] = (),
) -> dict[str, int]:
    """Replace layers by low-rank layers, in place, and return the rank of each.

    Layers that would not get smaller stay as they are. Low-rank layers that the model has already
    stay, too: its configuration names them all.

    Args:
        model: In evaluation mode; new layers have the precision of those that they replace.
        paths: As `chosen_layers` returns them.
        rank: How the rank of every layer is chosen.
        calibration: Text whose activations whiten the weights; without it they are not whitened.

    Raises:
        StudentError: No layer is named, or none would get smaller.
    """
    if not paths:
        raise StudentError("no layer is named that could be low-rank; give paths of linear layers")
    body = model.base_model
    moments = _input_moments(model, paths, calibration) if calibration else {}
    ranks: dict[str, int] = {}
    for path in told(paths, "singular values", "layers"):
        layer: Any = body.get_submodule(path)
        inputs, outputs = sizes_of(layer)
        weight = layer.weight.detach().double()
        weight = weight.mT if isinstance(layer, Conv1D) else weight
        up, values, down = _factors(weight, moments.get(path))
        size = rank.of(values, inputs, outputs)
        if size > break_even(inputs, outputs):
            continue
        with torch.device(layer.weight.device):
            low_rank = LowRankLinear(inputs, outputs, size, bias=layer.bias is not None)
        low_rank.to(layer.weight.dtype)
        with torch.no_grad():
            last, first = _balanced(up[:, :size] * values[:size], down[:size])
            low_rank.up.weight.copy_(last)
            low_rank.down.weight.copy_(first)
            if layer.bias is not None:
                low_rank.up.bias.copy_(layer.bias)
        set_submodule(body, path, low_rank.train(layer.training))
        ranks[path] = size
    if not ranks:
        most = max(break_even(*sizes_of(body.get_submodule(path))) for path in paths)
        raise StudentError(
            f"no layer would get smaller; the largest rank that saves anything is {most}: lower"
            " the rank, the energy or the parameter_ratio"
        )
    all_ranks = low_rank_ranks(model.config) | ranks
    model.config.quantization_config = {"quant_method": QUANT_METHOD, "ranks": all_ranks}
    return ranks


def merge_factors(model: PreTrainedModel, architecture: Architecture) -> None:
    """Turn all low-rank layers into dense layers, in place."""
    low_rank = [path for path, m in model.named_modules() if isinstance(m, LowRankLinear)]
    for path in low_rank:
        layer: Any = model.get_submodule(path)
        dense = layer.dense()
        set_submodule(model, path, _inputs_first(dense) if architecture.inputs_first else dense)
    if low_rank:
        del model.config.quantization_config


def _inputs_first(layer: nn.Linear) -> nn.Module:
    with torch.device(layer.weight.device):
        turned: Any = Conv1D(layer.out_features, layer.in_features)  # type: ignore[no-untyped-call]
    turned.to(layer.weight.dtype)
    with torch.no_grad():
        turned.weight.copy_(layer.weight.mT)
        turned.bias.copy_(layer.bias)
    module: nn.Module = turned
    return module


def _factors(
    weight: Float[Tensor, "outputs inputs"], moments: Float[Tensor, "inputs inputs"] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Left vectors, singular values and right vectors; whitened where moments are given."""
    if moments is None:
        up, values, down = torch.linalg.svd(weight, full_matrices=False)
        return up, values, down
    damping = _DAMPING * moments.diagonal().mean().clamp_min(1e-12)
    ones = torch.ones_like(moments.diagonal())
    root = torch.linalg.cholesky(moments + torch.diag(damping * ones))
    up, values, down = torch.linalg.svd(weight @ root, full_matrices=False)
    return up, values, torch.linalg.solve_triangular(root, down, upper=False, left=False)


def _balanced(
    up: Float[Tensor, "outputs rank"], down: Float[Tensor, "rank inputs"]
) -> tuple[Tensor, Tensor]:
    """The same product, with each direction equally long in both factors.

    Whitening scales one factor up by the layer's inputs, over all of the text, and scales the
    other down; an optimizer that takes steps of one size for all weights would destroy the small
    factor.
    """
    lengths = up.norm(dim=0), down.norm(dim=1)
    root = (lengths[1] / lengths[0].clamp_min(1e-30)).sqrt()
    return up * root, down / root.clamp_min(1e-30)[:, None]


def _input_moments(
    model: PreTrainedModel, paths: Sequence[str], calibration: Sequence[Tokens]
) -> dict[str, Tensor]:
    """The sum of x x^T over the inputs of each layer at real tokens, in float64.

    The products of a few texts are in float32, whose errors are far below the damping. Layers that
    read the same tensor, as the first two of a gated feed-forward layer, share them.
    """
    moments: dict[str, Tensor] = {}
    real: list[Tensor] = []
    last: list[tuple[Tensor, Tensor]] = []  # what entered a layer, and its product

    def hook(path: str) -> Callable[..., None]:
        def add(module: nn.Module, arguments: Any) -> None:
            (entered,) = arguments
            if not last or last[0][0] is not entered:
                rows = entered.detach().float().flatten(0, -2)
                if len(rows) == real[-1].numel():
                    rows = rows[real[-1].flatten()]
                last[:] = [(entered, rows.mT @ rows)]
            moments[path] = moments.get(path, 0) + last[0][1].double()

        return add

    texts = [
        (
            tokens.input_ids[first : first + _TEXTS_AT_ONCE],
            tokens.mask[first : first + _TEXTS_AT_ONCE],
        )
        for tokens in calibration
        for first in range(0, len(tokens.mask), _TEXTS_AT_ONCE)
    ]
    body = model.base_model
    handles = [body.get_submodule(p).register_forward_pre_hook(hook(p)) for p in paths]
    try:
        with torch.no_grad():
            for ids, mask in told(texts, "inputs of low-rank layers", "batches"):
                real.append(mask)
                body(input_ids=ids, attention_mask=mask.long())
    finally:
        for handle in handles:
            handle.remove()
    return moments
