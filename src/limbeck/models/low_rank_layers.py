"""Linear layers in two factors.

Which layers are factored, and at what rank, stands in the model's config.json where
transformers looks for weights of another form than usual (`quantization_config`), so every
`AutoModel...from_pretrained` builds them, once limbeck has been imported.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..errors import ModelError
from .low_rank_loading import QUANT_METHOD


class FactoredLinear(nn.Module):
    """A linear map through a narrower space: up(down(x)).

    Args:
        inputs: Width of what enters.
        outputs: Width of what leaves.
        rank: Width between.
        bias: Whether something is added to what leaves.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=bias)

    def forward(self, x: Float[Tensor, "*places inputs"]) -> Float[Tensor, "*places outputs"]:
        """The map."""
        mapped: Tensor = self.up(self.down(x))
        return mapped

    @property
    def weight(self) -> Float[Tensor, "outputs inputs"]:
        """The factors multiplied out: families read it where they draw the weights of layers.

        What is written to it is lost, so weights that were loaded stay as they are.
        """
        return self.up.weight @ self.down.weight

    @property
    def bias(self) -> Float[Tensor, " outputs"] | None:
        """What is added to what leaves."""
        return self.up.bias

    def dense(self) -> nn.Linear:
        """The same map with its factors multiplied out."""
        inputs, outputs = self.down.in_features, self.up.out_features
        bias, kind = self.bias, self.up.weight.dtype
        layer = nn.Linear(inputs, outputs, bias=bias is not None, dtype=kind)
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            if bias is not None:
                layer.bias.copy_(bias)
        return layer


def sizes_of(layer: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer, GPT-2's own kind included."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, Conv1D):
        return int(layer.weight.shape[0]), int(layer.weight.shape[1])
    raise TypeError(f"{type(layer).__name__} is no linear layer")


def set_submodule(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a dotted path, in place of the one that is there."""
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent).add_module(name, module)


def add_factors(model: PreTrainedModel, ranks: dict[str, int]) -> None:
    """Give a model layers in two factors, of untrained weights, at paths from its body.

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
                f"config.json says that {path!r} is in two factors, but {error}; take the model"
                " folder as it was saved"
            ) from error
        if not isinstance(rank, int) or rank < 1:
            raise ModelError(f"config.json gives {path!r} the rank {rank!r}; it must be 1 or more")
        with torch.device(layer.weight.device):
            set_submodule(
                body, path, FactoredLinear(inputs, outputs, rank, bias=layer.bias is not None)
            )


def factored_ranks(config: Any) -> dict[str, int]:
    """The rank of every factored layer of a configuration, by its path from the body.

    Raises:
        ModelError: The configuration speaks of factors and does not say their ranks.
    """
    found = getattr(config, "quantization_config", None)
    if isinstance(found, dict) and found.get("quant_method") == QUANT_METHOD:
        ranks = found.get("ranks")
        if not isinstance(ranks, dict) or not all(isinstance(n, int) for n in ranks.values()):
            raise ModelError(
                f"the configuration's layers in two factors have the ranks {ranks!r:.80}; needed is"
                " the rank of each by its path, as export writes them: copy config.json anew"
            )
        return dict(ranks)
    return {}
