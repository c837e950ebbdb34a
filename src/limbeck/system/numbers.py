"""Numbers as a user may write them in YAML: true is none, and neither is "2"."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

# PyYAML reads 1e-3 as text, for YAML 1.1 wants a dot in it. Who writes it means the number.
_EXPONENT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")


def _as_number(value: Any) -> Any:
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    if isinstance(value, str):
        raise PydanticCustomError("number", "must be a number, and is text")
    return _no_truth_value(value)


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number, and is a truth value")
    return value


Number = Annotated[float, BeforeValidator(_as_number)]
Whole = Annotated[int, BeforeValidator(_as_number)]
WholeOrName = Annotated[int | str, BeforeValidator(_no_truth_value)]
