"""The names of roundings, for what parses recipes before torch is loaded."""

from typing import Literal

Rounding = Literal["int8", "int8_reduced", "int4"]
