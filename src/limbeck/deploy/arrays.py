"""The arrays that models take and give, whatever runs them."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from numpy import ndarray

Feed = Mapping[str, ndarray]
Output = Float[ndarray, "batch *rest"]
Forward = Callable[[Feed], ndarray]


@runtime_checkable
class ModelFile(Protocol):
    """A file that is ready to run.

    Attributes:
        inputs: Names of the arrays that it takes.
    """

    inputs: tuple[str, ...]

    def __call__(self, feed: Feed) -> Output:
        """The only output, for int64 arrays [batch, tokens] by name; more of them may be given."""
        ...
