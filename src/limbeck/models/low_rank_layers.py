"""Low-rank linear layers: a product of two thin matrices in the place of a weight.

The model's config.json says which layers are low-rank, and their ranks, in the field where
transformers looks for weights in an unusual format (`quantization_config`). So every
`AutoModel...from_pretrained` builds them once limbeck has been imported.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..errors import ModelError
from .low_rank_loading import QUANT_METHOD


class LowRankLinear(nn.Module):
    """A linear map through a narrower space: up(down(x)).

    Args:
        inputs: Width of the input.
        outputs: Width of the output.
        rank: Width between the two matrices.
        bias: Whether a bias is added to the output.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=bias)

    def forward(self, x: Float[Tensor, "*places inputs"]) -> Float[Tensor, "*places outputs"]:
        """The output of the layer."""
        mapped: Tensor = self.up(self.down(x))
        return mapped

    @property
    def weight(self) -> Float[Tensor, "outputs inputs"]:
        """The product of both matrices, for code of transformers that initializes weights.

        Writing to it has no effect, so loaded weights are never overwritten.
        """
        return self.up.weight @ self.down.weight

    @property
    def bias(self) -> Float[Tensor, " outputs"] | None:
        """The bias that is added to the output."""
        return self.up.bias

    def dense(self) -> nn.Linear:
        """The same map as a dense linear layer."""
        inputs, outputs = self.down.in_features, self.up.out_features
        bias, like = self.bias, {"dtype": self.up.weight.dtype, "device": self.up.weight.device}
        layer = nn.Linear(inputs, outputs, bias=bias is not None, **like)
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            if bias is not None:
                layer.bias.copy_(bias)
        return layer


def dense_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter once, by its name in a model without low-rank layers.

    A product of two thin matrices is one matrix, in the layout of a linear layer.
    """
    low_rank = {path: m for path, m in model.named_modules() if isinstance(m, LowRankLinear)}
    thin = {id(weight) for module in low_rank.values() for weight in module.parameters()}
    for path, module in low_rank.items():
        yield from module.dense().named_parameters(path)
    yield from ((name, one) for name, one in model.named_parameters() if id(one) not in thin)


def sizes_of(layer: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer, also of GPT-2's Conv1D."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, Conv1D):
        return int(layer.weight.shape[0]), int(layer.weight.shape[1])
    raise TypeError(f"{type(layer).__name__} is no linear layer")


def set_submodule(model: nn.Module, path: str, module: nn.Module) -> None:
    """Replace the module at a dotted path."""
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent).add_module(name, module)


def add_low_rank_layers(model: PreTrainedModel, ranks: dict[str, int]) -> None:
    """Replace linear layers by untrained low-rank ones, at paths within the model's body.

    Raises:
        ModelError: There is no such linear layer, or a rank is no number above 0.
    """
    body = model.base_model
    for path, rank in ranks.items():
        try:
            layer: Any = body.get_submodule(path)
            inputs, outputs = sizes_of(layer)
        except (AttributeError, TypeError) as error:
            raise ModelError(
                f"config.json says that {path!r} is a low-rank layer, but {error}; use the model"
                " folder as it was saved"
            ) from error
        if not isinstance(rank, int) or rank < 1:
            raise ModelError(f"config.json gives {path!r} the rank {rank!r}; it must be 1 or more")
        with torch.device(layer.weight.device):
            set_submodule(
                body, path, LowRankLinear(inputs, outputs, rank, bias=layer.bias is not None)
            )


def low_rank_ranks(config: Any) -> dict[str, int]:
    """The rank of every low-rank layer of a configuration, by its path within the body.

    Raises:
        ModelError: The configuration names low-rank layers without valid ranks.
    """
    found = getattr(config, "quantization_config", None)
    if isinstance(found, dict) and found.get("quant_method") == QUANT_METHOD:
        ranks = found.get("ranks")
        if not isinstance(ranks, dict) or not all(isinstance(n, int) for n in ranks.values()):
            raise ModelError(
                f"the configuration's low-rank layers have the ranks {ranks!r:.80}; needed is the"
                " rank of each layer by its path, as export writes them: copy config.json again"
            )
        return dict(ranks)
    return {}
