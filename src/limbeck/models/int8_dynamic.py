"""A linear layer that only runs, and multiplies numbers of 8 bits: faster, and less exact.

The weights of each output share a scale. So do the inputs of each token, whose scale is found when
they come, so that what a text gives never depends on the texts beside it. Sums of products are
exact. The processor multiplies 8 bits faster than float32, and with VNNI or AMX for 8 bits faster
than bfloat16; torch's public functions for such products take one scale for all tokens, which
costs twice the error. The two that its compiler calls are used here, in one place
(tests/models/test_int8_dynamic.py fails where they change).

Source: vector-wise quantization of Dettmers et al. 2022, LLM.int8(), arXiv:2208.07339, section 3.1.
"""

import os
import platform

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from ..system.int8_range import int8_range

_LARGEST_INPUT = 126  # of 127, so that a scale may be rounded to bfloat16
_ZERO = 128  # stands for 0 in the inputs, which have no sign
# A number beside this one is rounded to a whole one, which the lowest byte then holds.
_ROUNDING = 1.5 * 2**23
_LEAST = 1e-30  # a scale, of inputs that are all 0
_X86_64 = ("x86_64", "amd64")
# oneDNN's names of the instruction sets without VNNI, to which ONEDNN_MAX_CPU_ISA may limit it.
_WITHOUT_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")


def int8_dynamic_missing() -> str | None:
    """Why inputs and weights cannot be multiplied in 8 bits here; None where they can."""
    here = platform.machine().lower() in _X86_64 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if here and torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None
    return "int8_dynamic needs oneDNN on an x86-64 processor with AVX2; use int8, or leave it out"


def largest_weight() -> int:
    """The largest number that a weight is rounded to: 7 bits where sums of 8 would saturate."""
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_VNNI
    return 63 if limited or int8_range().reduced else 127


class Int8DynamicLinear(nn.Module):
    """A linear layer whose weights are rounded once, and whose inputs are as they come.

    Args:
        weight: Of the layer, outputs by inputs.
        bias: Of the layer.

    Attributes:
        rounded: The weights as whole numbers.
        scale: Of each output.
        packed: The same weights, laid out for the processor.
        bias: Of the layer, in float32.
    """

    rounded: Int8[Tensor, "out in"]
    scale: Float[Tensor, " out"]
    packed: Tensor
    bias: Tensor
    offsets: Tensor

    def __init__(self, weight: Float[Tensor, "out in"], bias: Tensor | None) -> None:
        super().__init__()
        weight, largest = weight.detach().float(), largest_weight()
        self.out_features, self.in_features = weight.shape
        scale = weight.abs().amax(1).clamp_min(_LEAST) / largest
        rounded = (weight / scale[:, None]).round().clamp(-largest, largest).to(torch.int8)
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().float()
        parts = {
            "rounded": rounded,
            "scale": scale,
            "packed": torch.ops.onednn.qlinear_prepack(rounded.contiguous(), None),
            "bias": bias,
            "offsets": torch.zeros(len(weight), dtype=torch.int32),
        }
        for name, part in parts.items():
            self.register_buffer(name, part, persistent=False)

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The rounded matrix in float32."""
        return self.rounded.float() * self.scale[:, None]

    def forward(self, inputs: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        """What the layer gives, in the precision of autocast; in float32 where that is off."""
        half = torch.is_autocast_enabled("cpu")
        kind = torch.get_autocast_dtype("cpu") if half else torch.float32
        rows = inputs.reshape(-1, self.in_features).float()
        # Rounded as the products are, so that both sides have the same scale.
        scale = (rows.abs().amax(1, keepdim=True) / _LARGEST_INPUT).clamp_min(_LEAST).to(kind)
        whole = torch.addcmul(rows.new_tensor(_ROUNDING + _ZERO), rows, 1 / scale.float())
        products = torch.ops.onednn.qlinear_pointwise(
            *(whole.view(torch.int32).to(torch.uint8), 1.0, _ZERO),
            *(self.packed, self.scale, self.offsets, None),
            *(1.0, 0, kind, "none", [], ""),
        )
        found = torch.addcmul(self.bias.to(kind), products, scale)
        return found.view(*inputs.shape[:-1], self.out_features)
