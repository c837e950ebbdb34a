"""How weights are rounded to 8 bits, so that the processor multiplies them exactly.

Activations have 8 bits without a sign, weights 8 bits with one. Without instructions for such
products (VNNI, AMX) x86-64 adds two of them in 16 bits, which may saturate; weights of 7 bits,
reduced range, never do. ARM adds them in 32 bits.

Source: onnxruntime, "Quantize ONNX models", data type selection.
"""

import platform
from dataclasses import dataclass

import torch

_EXACT = ("avx512_vnni", "avx_vnni", "amx_int8")
_X86 = ("x86_64", "amd64", "i686", "i386")


@dataclass(frozen=True)
class Int8Range:
    """How weights are rounded.

    Attributes:
        reduced: To 7 of the 8 bits.
        reason: What was found of the processor.
        exact_on: The processors on which sums of products never saturate.
    """

    reduced: bool
    reason: str
    exact_on: str


def int8_range() -> Int8Range:
    """The range for the processor that this runs on."""
    if platform.machine().lower() not in _X86:
        return Int8Range(False, "the processor adds products of 8 bits in 32 bits", _FULL)
    if found := [name for name in _EXACT if torch.cpu.get_capabilities().get(name)]:
        return Int8Range(False, f"the processor has {', '.join(found)}", _FULL)
    return Int8Range(
        True, "the processor has neither VNNI nor AMX for 8 bits: 7-bit weights", "any processor"
    )


_FULL = "processors with VNNI or AMX for 8 bits, and ARM; sums may saturate on other x86-64"
