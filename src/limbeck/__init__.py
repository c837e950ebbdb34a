"""Distils Transformer language models, and proves what the student kept."""

__version__ = "0.1.0"
