"""A file of any format, opened by the engine that runs it: arrays in, an array out."""

from pathlib import Path

from ..errors import ExportError
from .arrays import ModelFile


def open_file(file: Path, threads: int | None = None) -> ModelFile:
    """A file on its engine, chosen by the end of its name.

    Loads torch for ExecuTorch alone, whose arrays in Python are torch's.

    Args:
        file: The model.
        threads: That compute; None for as many as there are cores.

    Raises:
        ExportError: The engine cannot load the file, or none knows its kind.
        MissingExtraError: The engine is not installed.
    """
    if file.suffix == ".onnx":
        from .onnx_files.onnx_file import OnnxFile

        return OnnxFile(file, threads)
    if file.suffix == ".xml":
        from .openvino_files.openvino_file import OpenVinoFile

        return OpenVinoFile(file, threads)
    if file.suffix == ".gguf":
        from .gguf_files.llama_cpp_file import LlamaCppFile

        return LlamaCppFile(file, threads)
    if file.suffix == ".pte":
        from .executorch_files.executorch_file import ExecutorchFile

        return ExecutorchFile(file, threads)
    raise ExportError(
        f"{file.name!r} is none of the files that `limbeck export` writes (.onnx, .xml, .gguf,"
        " .pte); give one of them"
    )
