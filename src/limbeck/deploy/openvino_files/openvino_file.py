"""A model file on OpenVINO: arrays in, an array out."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from ...errors import ExportError, first_line
from ...models.openvino_package import openvino_module
from ..arrays import Feed, Output
from ..formats import need_engine

# float32 is named because OpenVINO takes bfloat16 where the processor has AMX: three times as fast
# there, but a file would give other answers than on the next processor, by 0.01 to 0.03 in logits.
# A group size of 0 means that activations beside weights in 8 bits are not rounded, either.
# Threads are not pinned to cores: two processes would pin theirs to the same ones and wait.
_SETTINGS = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    "ENABLE_CPU_PINNING": False,
}


class OpenVinoFile:
    """A model compiled by OpenVINO for the processor.

    Args:
        file: The model, an .xml with its .bin beside it.
        threads: That compute; None for as many as there are cores.

    Raises:
        ExportError: OpenVINO cannot load the file.
        MissingExtraError: It is not installed.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        need_engine("OpenVINO", "running an OpenVINO file")
        compiled = _compiled(file, threads)
        self._request = compiled.create_infer_request()
        self.inputs = tuple(one.get_any_name() for one in compiled.inputs)

    def __call__(self, feed: Feed) -> Output:
        """The only output, for int64 arrays [batch, tokens] by the names of the inputs."""
        given = {name: np.ascontiguousarray(feed[name], np.int64) for name in self.inputs}
        self._request.infer(given)
        found: ndarray = self._request.get_output_tensor(0).data.copy()  # its memory is used again
        return found


def _compiled(file: Path, threads: int | None) -> Any:
    """A compiled model.

    Raises:
        ExportError: OpenVINO cannot load the file.
    """
    openvino = openvino_module()
    settings = _SETTINGS if threads is None else {**_SETTINGS, "INFERENCE_NUM_THREADS": threads}
    try:
        return openvino.Core().compile_model(str(file), "CPU", settings)
    except RuntimeError as error:  # what its binary module raises
        raise ExportError(
            f"OpenVINO cannot load {file.name}: {first_line(error)}; its .bin must stand beside it."
            " Export it again, or with other --formats"
        ) from error
