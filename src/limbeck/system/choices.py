"""What a user may say of device and precision; apart, so that checking a recipe loads no torch."""

from typing import Literal

DeviceChoice = Literal["auto", "cuda", "mps", "cpu"]
PrecisionChoice = Literal["auto", "bfloat16", "float32"]
