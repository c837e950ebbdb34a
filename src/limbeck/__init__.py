"""Distils Transformer language models, and proves what the student kept."""

from .models.low_rank_loading import register

__version__ = "0.1.0"
__all__ = ["__version__", "distill", "load"]

# So that transformers can load models with low-rank layers wherever limbeck is imported.
register()


def __getattr__(name: str) -> object:
    """`limbeck.distill` and `limbeck.load`, imported when they are first used."""
    if name == "distill":
        from .run.distill import distill

        return distill
    if name == "load":
        from .deploy.load import load

        return load
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
