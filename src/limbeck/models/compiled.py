"""Forwards of layers and losses that torch compiles: operations between matrix products are fused.

What is captured inside a layer is captured by hooks, which a compiled forward would not run; such
a layer stays as it is. Compiled forwards are in place only while a model is captured.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
R = TypeVar("R")

_compiles: ContextVar[bool] = ContextVar("compiles", default=False)
# Both models, with and without gradients, of fixed and of changing lengths, for several objectives.
_VARIANTS = 64


@contextmanager
def compiling(on: bool = True) -> Iterator[None]:
    """Within this context, layers and losses are compiled, if ``on``."""
    if on:
        settings: Any = torch._dynamo.config
        settings.recompile_limit = _VARIANTS
        settings.suppress_errors = True  # what cannot be compiled runs as it is, with a warning
    token = _compiles.set(on)
    try:
        yield
    finally:
        _compiles.reset(token)


def compiles() -> bool:
    """Whether this is within `compiling`."""
    # In what torch compiles the variable would divide the graph.
    return torch.compiler.is_compiling() or _compiles.get()


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which torch compiles within `compiling`."""

    @wraps(function)
    def chosen(*args: P.args, **kwargs: P.kwargs) -> R:
        inside = torch.compiler.is_compiling()  # of what is compiled already
        found: R = (_made_of(function) if not inside and _compiles.get() else function)(
            *args, **kwargs
        )
        return found

    return chosen


@contextmanager
def compiled_layers(layers: Sequence[nn.Module], plain: set[int]) -> Iterator[None]:
    """Within this context the layers' forwards are the compiled ones, where compiling is on.

    Args:
        layers: In order; the same module several times where layers are shared.
        plain: Numbers of layers that stay as they are.
    """
    if not _compiles.get():
        yield
        return
    kept = {layers[number] for number in plain}
    # A forward of the layer's own was put there by who moves it between devices.
    changed = {layer for layer in layers if layer not in kept and "forward" not in vars(layer)}
    for layer in changed:
        # Of the class: what belongs to a layer goes with its copies, and would read its weights.
        layer.forward = partial(_made_of(type(layer).forward), layer)
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward  # the class's is found again


@cache
def _made_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Made where it is first used, because torch's compiler imports much."""
    return torch.compile(function)
