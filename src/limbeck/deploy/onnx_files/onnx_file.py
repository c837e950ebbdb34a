"""A model file on ONNX Runtime: arrays in, an array out."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from ...errors import ExportError, first_line
from ..arrays import Feed, Output
from ..formats import need_engine


class OnnxFile:
    """A session of ONNX Runtime on the processor.

    Args:
        file: The model.
        threads: That compute; None for as many as there are cores.

    Raises:
        ExportError: ONNX Runtime cannot load the file.
        MissingExtraError: It is not installed.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        need_engine("ONNX Runtime", "running an ONNX file")
        self._session = _session_of(file, threads)
        self.inputs = tuple(one.name for one in self._session.get_inputs())

    def __call__(self, feed: Feed) -> Output:
        """The only output, for int64 arrays [batch, tokens] by the names of the inputs."""
        given = {name: np.ascontiguousarray(feed[name], np.int64) for name in self.inputs}
        found: ndarray = self._session.run(None, given)[0]
        return found


def _session_of(file: Path, threads: int | None) -> Any:
    """A session of ONNX Runtime.

    Raises:
        ExportError: It cannot load the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are of optimizations that users cannot change
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(
            str(file), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # classes of its binary module, which share no base of their own
        raise ExportError(
            f"ONNX Runtime cannot load {file.name}: {first_line(error)}; export it again, or with"
            " other --formats"
        ) from error
