"""What "alike" means: one file, one idea, one Source line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalogue import OBJECTIVES

__all__ = ["OBJECTIVES"]


def __getattr__(name: str) -> Any:
    """`OBJECTIVES`, imported when it is first asked for: what computes with torch is heavy."""
    if name == "OBJECTIVES":
        from .catalogue import OBJECTIVES

        return OBJECTIVES
    raise AttributeError(f"module 'limbeck.objectives' has no attribute {name!r}")
