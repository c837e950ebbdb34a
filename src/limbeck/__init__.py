"""Distils Transformer language models, and proves what the student kept."""

__version__ = "0.1.0"
__all__ = ["__version__", "distill"]


def __getattr__(name: str) -> object:
    """`limbeck.distill`, imported when it is first asked for: torch takes seconds to load."""
    if name == "distill":
        from .run import distill

        return distill
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
