"""Number types for fields that users write in YAML: neither true nor "2" is a number."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

# PyYAML reads 1e-3 as text, because YAML 1.1 requires a dot in it; users mean the number.
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
