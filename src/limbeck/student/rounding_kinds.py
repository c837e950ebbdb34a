"""The names of roundings, for what parses recipes before torch is loaded."""

from typing import Literal, get_args

Rounding = Literal["int8", "int8_reduced", "int4"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
