"""Weights and temperatures that change over a stage."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, WrapValidator
from pydantic_core import PydanticCustomError

from ..system.numbers import Number

_T = TypeVar("_T")
_Finite = Annotated[Number, Field(allow_inf_nan=False)]
_Share = Annotated[Number, Field(ge=0, le=1)]
# Limits of a temperature: beyond them all logits are alike, or the squared temperature overflows.
_TEMPERATURES = 0.001, 1000.0


@dataclass(frozen=True)
class Ramp:
    """A number that changes from one value to another over a part of a stage.

    Attributes:
        start: The value before the ramp.
        end: The value after the ramp.
        begins: Share of the stage's steps at which the ramp begins.
        ends: Share of the stage's steps at which the ramp ends.
        form: ``linear`` or ``cosine``, which starts and ends slowly.

    >>> Ramp(4.0, 1.0).at(0.5), Ramp(1.0, 0.0, begins=0.5).at(0.25)
    (2.5, 1.0)
    >>> str(Ramp(4.0, 1.0)), str(Ramp(1.0, 0.0, begins=0.5, form="cosine"))
    ('4 to 1', '1 to 0 (cosine, from 50% to 100% of the stage)')
    """

    start: _Finite
    end: _Finite
    begins: _Share = 0.0
    ends: _Share = 1.0
    form: Literal["linear", "cosine"] = "linear"

    def at(self, progress: float) -> float:
        """The value when this share of the stage is done."""
        width = max(self.ends - self.begins, 1e-12)
        done = min(1.0, max(0.0, (progress - self.begins) / width))
        if self.form == "cosine":
            done = 0.5 - 0.5 * math.cos(math.pi * done)
        return self.start + (self.end - self.start) * done

    def __str__(self) -> str:
        """For tables: both values, and how it differs from a line over the whole stage."""
        how: list[str] = [self.form] if self.form != "linear" else []
        if (self.begins, self.ends) != (0, 1):
            how.append(f"from {self.begins:.0%} to {self.ends:.0%} of the stage")
        return f"{self.start:g} to {self.end:g}" + (f" ({', '.join(how)})" if how else "")


def _forward(ramp: Ramp) -> Ramp:
    if ramp.begins > ramp.ends:
        message = "begins at {begins} and ends at {ends}; let it end no earlier than it begins"
        places = {"begins": f"{ramp.begins:g}", "ends": f"{ramp.ends:g}"}
        raise PydanticCustomError("ramp", message, places)
    return ramp


def _number_or_ramp(value: Any, _: Any) -> float | Ramp:
    """Only the type that was meant reports errors, not both."""
    meant: Any = Number
    if isinstance(value, Mapping | Ramp):
        meant = Annotated[Ramp, AfterValidator(_forward)]
    found: float | Ramp = TypeAdapter(meant).validate_python(value)
    return found


# In a recipe: a number, or {start: 4, end: 1}.
NumberOrRamp = Annotated[float | Ramp, WrapValidator(_number_or_ramp)]


def number(value: float | Ramp, progress: float = 1.0) -> float:
    """The value itself, or the ramp's value when this share of the stage is done."""
    return value.at(progress) if isinstance(value, Ramp) else value


def temperature_problems(value: float | Ramp) -> list[tuple[str, str]]:
    """What is wrong with a temperature, or with the ends of its ramp, as (field, message)."""
    least, most = _TEMPERATURES
    if isinstance(value, Ramp):
        ends = {"temperature.start": value.start, "temperature.end": value.end}
    else:
        ends = {"temperature": value}
    return [
        (field, f"is {end:g}; give {least:g} to {most:g}")
        for field, end in ends.items()
        if not least <= end <= most
    ]


def at_progress(part: _T, progress: float) -> _T:
    """A frozen dataclass with every ramp among its fields replaced by its present value."""
    changing: dict[str, Any] = {
        item.name: value.at(progress)
        for item in fields(part)  # type: ignore[arg-type]
        if isinstance(value := getattr(part, item.name), Ramp)
    }
    return replace(part, **changing) if changing else part  # type: ignore[type-var]
