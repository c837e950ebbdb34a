"""Names of devices and precisions, without torch, so that checking a recipe stays fast."""

from typing import Literal

DeviceChoice = Literal["auto", "cuda", "mps", "cpu"]
PrecisionChoice = Literal["auto", "bfloat16", "float32"]
