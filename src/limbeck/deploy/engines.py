"""A file of any format, opened by the engine that runs it: arrays in, an array out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from numpy import ndarray

from ..errors import ExportError

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


def open_file(file: Path, threads: int | None = None) -> ModelFile:
    """A file on its engine, chosen by the end of its name. Never loads torch.

    Args:
        file: The model.
        threads: That compute; None for as many as there are cores.

    Raises:
        ExportError: The engine cannot load the file, or none knows its kind.
        MissingExtraError: The engine is not installed.
    """
    if file.suffix == ".onnx":
        from .onnx_file import OnnxFile

        return OnnxFile(file, threads)
    raise ExportError(
        f"{file.name!r} is none of the files that `limbeck export` writes (.onnx); give one of them"
    )
