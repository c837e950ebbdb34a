"""A linear layer that only runs, with its matrix in 4 bits.

Each run of 32 weights of a row has its least weight and a step: a weight is the least one and 0 to
15 steps. The matrix is widened where it is used, and the inputs of the layer are not rounded. In
torchao 0.18 matrices of 4 bits are for GPUs, or take a byte for each weight; this takes 5 bits
anywhere.

Source: round-to-nearest with a step and an offset for each group, as in Frantar et al. 2022, GPTQ,
arXiv:2210.17323, section 4 (its baseline RTN).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, pad

GROUP = 32  # weights that share a step
_STEPS = 15
_LARGEST = 60_000.0  # that float16 holds, with room for rounding


class Int4Linear(nn.Module):
    """A linear layer, of which ``weight`` is computed from 4 bits each time that it is read.

    Args:
        weight: Of the layer, outputs by inputs.
        bias: Of the layer; kept as it is.

    Attributes:
        packed: Two numbers of steps in a byte, the first in its lower half.
        step: Of each group.
        least: The least weight of each group.
        bias: Of the layer.
    """

    packed: Tensor
    step: Tensor
    least: Tensor

    def __init__(self, weight: Float[Tensor, "out in"], bias: nn.Parameter | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        size = GROUP if self.in_features % GROUP == 0 else self.in_features
        groups = weight.detach().float().view(self.out_features, -1, size)
        low, high = groups.amin(-1), groups.amax(-1)
        within = float(weight.detach().abs().max()) < _LARGEST
        kind = torch.float16 if within else torch.float32
        # Numbers of steps are chosen for the step and the least weight as they are kept.
        self.register_buffer("step", ((high - low) / _STEPS).to(kind), persistent=False)
        self.register_buffer("least", low.to(kind), persistent=False)
        step = torch.where(self.step == 0, 1, self.step).float()  # of a group of equal weights
        number = ((groups - self.least.float()[..., None]) / step[..., None]).round()
        number = number.clamp(0, _STEPS).to(torch.uint8).flatten(1)
        number = pad(number, (0, self.in_features % 2))
        packed = number[:, ::2] | (number[:, 1::2] << 4)
        self.register_buffer("packed", packed, persistent=False)
        self.bias = bias

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The matrix in float32."""
        halves = torch.stack([self.packed & 15, self.packed >> 4], -1).flatten(1)
        number = halves[:, : self.in_features].view(*self.step.shape, -1).float()
        found = torch.addcmul(self.least.float()[..., None], number, self.step.float()[..., None])
        return found.view(self.out_features, self.in_features)

    def forward(self, inputs: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        """What the layer gives."""
        return linear(inputs, self.weight.to(inputs.dtype), self.bias)
