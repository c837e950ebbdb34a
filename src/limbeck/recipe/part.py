"""What every part of a recipe is: frozen data, of which every key is known."""

from typing import Any

from pydantic import BaseModel, ConfigDict

# Beyond any model that there is, so that a slip of the keyboard does not fill the memory.
MOST_LAYERS, MOST_WIDTH, MOST_TOKENS = 10_000, 1_000_000, 100_000_000


class Part(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def as_model(value: Any) -> Any:
    """A model's name alone stands for the part that has nothing but it."""
    return {"model": value} if isinstance(value, str) else value


def as_kind(value: Any) -> Any:
    """A kind's name alone stands for the part that has nothing but it."""
    return {"kind": value} if isinstance(value, str) else value
