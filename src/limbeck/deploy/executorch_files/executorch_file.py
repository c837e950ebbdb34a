"""A model file on ExecuTorch: arrays in, an array out."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from ...errors import ExportError, first_line
from ..arrays import Feed, Output
from ..formats import need_engine
from .native_log import native_log

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # a file has their order, not names


class ExecutorchFile:
    """A program of ExecuTorch on the processor.

    Args:
        file: The model, a .pte.
        threads: That compute, in all such files of the process; None for as many as ExecuTorch
            takes.

    Attributes:
        most: Texts at once, and tokens of a text, that the file has memory for. More texts are run
            one part after the other.

    Raises:
        ExportError: ExecuTorch cannot load the file.
        MissingExtraError: It is not installed.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        need_engine("ExecuTorch", "running an ExecuTorch file")
        self._file = file
        self._program, self._method = _loaded(file, threads)
        told = self._method.method_meta()
        self.inputs = _INPUTS[: told.num_inputs()]
        rows, tokens = told.input_tensor_meta(0).sizes()
        self.most: tuple[int, int] = rows, tokens

    def __call__(self, feed: Feed) -> Output:
        """The only output, for int64 arrays [batch, tokens] by the names of the inputs.

        Raises:
            ExportError: A text is longer than the file has memory for, or ExecuTorch fails.
        """
        given = [np.ascontiguousarray(feed[name], np.int64) for name in self.inputs]
        (batch, tokens), (rows, longest) = given[0].shape, self.most
        if tokens > longest:
            raise ExportError(
                f"a text has {tokens} tokens, and {self._file.name} has memory for {longest}; give"
                " a shorter text, or take another format"
            )
        parts = [
            self._run([one[start : start + rows] for one in given])
            for start in range(0, batch, rows)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, given: list[ndarray]) -> ndarray:
        import torch

        try:
            [found] = self._method([torch.from_numpy(one) for one in given])
        except RuntimeError as error:  # what its binary module raises
            raise ExportError(
                f"ExecuTorch cannot run {self._file.name}: {first_line(error)}; take another format"
            ) from error
        array: ndarray = found.numpy()
        return array


def _loaded(file: Path, threads: int | None) -> tuple[Any, Any]:
    """A program, which must live as long as its method, and the method.

    The runtime is the binary module itself, which is private: `executorch.runtime`, which does
    nothing but call it, first imports all that files are made with, for seconds.

    Raises:
        ExportError: ExecuTorch cannot load the file.
    """
    import torch  # noqa: F401  # the binary module needs its libraries in the process

    with native_log() as said:
        runtime = import_module("executorch.extension.pybindings._C")
        try:
            if threads is not None:
                runtime._unsafe_reset_threadpool(threads)
            program = runtime._load_program(
                str(file),
                enable_etdump=False,
                debug_buffer_size=0,
                program_verification=runtime.Verification.InternalConsistency,
                data_path=None,
            )
            return program, program.load_method("forward")
        except RuntimeError as error:  # what its binary module raises
            why = said() or first_line(error)
            raise ExportError(
                f"ExecuTorch cannot load {file.name}: {why}; export it again, or with other"
                " --formats"
            ) from error
