"""Shapes in types are checked as functions run; mypy checks all other types.

jaxtyping's hook puts `jaxtyped` on every function and dataclass of a module, and that checks the
arguments of each call twice. `checked` checks them once, and only where a type gives a shape.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
import torch
from beartype import beartype
from jaxtyping import AbstractArray, config, install_import_hook

_jaxtyped = jaxtyping.jaxtyped


def check_shapes(modules: list[str]) -> None:
    """Check the shapes of these modules, which are still to be imported."""
    jaxtyping.jaxtyped = checked  # the hook looks it up in every module that it reads
    install_import_hook(modules, "beartype.beartype")


def checked(*, typechecker: object) -> Callable:
    """A decorator of functions and classes, called as the hook calls jaxtyping's own."""

    def decorated(thing: Any) -> Any:
        if not inspect.isclass(thing):
            return _checked_function(thing)
        if dataclasses.is_dataclass(thing) and "__init__" in vars(thing):
            thing.__init__ = _checked_function(thing.__init__)
        return thing

    return decorated


def _checked_function(function: Callable) -> Callable:
    if not any(map(_has_shape, function.__annotations__.values())):
        return function
    typed = beartype(function)

    @functools.wraps(function)
    def in_own_sizes(*arguments, **options):
        # A graph that torch.compile makes has no checks in it, which would divide it.
        if config.jaxtyping_disable or torch.compiler.is_dynamo_compiling():
            return function(*arguments, **options)
        with _jaxtyped("context"):  # a name of a size means the same in one call
            return typed(*arguments, **options)

    return in_own_sizes


def _has_shape(hint: Any) -> bool:
    if isinstance(hint, list):  # the arguments of a Callable
        return any(map(_has_shape, hint))
    shaped = inspect.isclass(hint) and issubclass(hint, AbstractArray)
    return shaped or any(map(_has_shape, get_args(hint)))
