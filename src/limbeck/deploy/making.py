"""What the files of a model are made of, and by which function each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from ..evaluation.examples import Reading
from ..system.int8_range import Int8Range, int8_range
from .arrays import Feed
from .batches import batches_of
from .engines import open_file
from .executorch_files.graphs import executorch_program, write_program
from .formats import (
    EXECUTORCH,
    EXECUTORCH_INT8,
    FLOAT32,
    FORMATS,
    FUSED,
    GGUF,
    GGUF_Q4,
    GGUF_Q8,
    INT4_WEIGHTS,
    INT8,
    INT8_WEIGHTS,
    OPENVINO,
    OPENVINO_INT8,
    OPENVINO_INT8_WEIGHTS,
    STATIC_INT8,
)
from .onnx_files.graphs import (
    float32_graph,
    fused_graph,
    int8_graph,
    static_int8_graph,
    weight_only_graph,
    write_graph,
)
from .openvino_files.graphs import (
    int8_openvino_graph,
    int8_weights_openvino_graph,
    openvino_graph,
    read_openvino,
    write_openvino,
)
from .sizes import check_sizes
from .source import Source

_CALIBRATED_AT_ONCE = 8


@dataclass(frozen=True)
class Making:
    """A model of which files are made.

    Attributes:
        source: The model.
        place: A folder for what is made once and used for several files.
        calibration: Texts that ranges of activations are read off; none of them is scored or
            compared.
        texts: The same as they were written.
        int8: How weights are rounded to 8 bits.
    """

    source: Source
    place: Path
    calibration: Sequence[Reading]
    texts: Sequence[str]
    int8: Int8Range = field(default_factory=int8_range)

    @cached_property
    def float32(self) -> Path:
        """The ONNX file in float32, which says what torch says."""
        file = self.place / FORMATS[FLOAT32].file
        write_graph(float32_graph(self.source), file)
        check_sizes(self.source, open_file(file))
        return file

    @cached_property
    def openvino(self) -> Path:
        """The OpenVINO file in float32, which says what torch says."""
        file = self.place / FORMATS[OPENVINO].file
        write_openvino(openvino_graph(self.source), file, half=False)
        check_sizes(self.source, open_file(file))
        return file

    @cached_property
    def executorch(self) -> Path:
        """The ExecuTorch file in float32, which says what torch says."""
        file = self.place / FORMATS[EXECUTORCH].file
        write_program(executorch_program(self.source), file)
        check_sizes(self.source, open_file(file))
        return file

    def feeds(self) -> list[Feed]:
        """The calibration texts as arrays by the names of the model's inputs."""
        padding = self.source.tokenizer.pad_token_id or 0
        found = batches_of(self.calibration, padding, size=_CALIBRATED_AT_ONCE)
        return [{name: feed[name] for name in self.source.inputs} for feed in found]


def make_file(name: str, making: Making, file: Path) -> None:
    """Write the file of a format.

    Args:
        name: Of `formats.FORMATS`.
        making: The model.
        file: Where; its folder is there and is its own.

    Raises:
        ExportError: It cannot be made of this model.
    """
    _MAKERS[name](making, file)


def _float32(making: Making, file: Path) -> None:
    for one in making.place.glob(f"{making.float32.name}*"):
        (file.parent / one.name).write_bytes(one.read_bytes())


def _fused(making: Making, file: Path) -> None:
    write_graph(fused_graph(making.float32), file)
    check_sizes(making.source, open_file(file))


def _int8(making: Making, file: Path) -> None:
    write_graph(int8_graph(making.float32, reduced=making.int8.reduced), file)


def _static_int8(making: Making, file: Path) -> None:
    graph = static_int8_graph(making.float32, making.feeds(), reduced=making.int8.reduced)
    write_graph(graph, file)


def _weight_only(making: Making, file: Path, bits: int) -> None:
    size = making.source.vocabulary
    write_graph(weight_only_graph(making.float32, bits=bits, vocabulary=size), file)


def _openvino(making: Making, file: Path) -> None:
    write_openvino(read_openvino(making.openvino), file, half=True)


def _openvino_int8(making: Making, file: Path) -> None:
    reduced = making.int8.reduced
    graph = int8_openvino_graph(making.openvino, making.feeds(), reduced=reduced)
    write_openvino(graph, file, half=False)


def _openvino_int8_weights(making: Making, file: Path) -> None:
    write_openvino(int8_weights_openvino_graph(making.openvino), file, half=False)


def _gguf(making: Making, file: Path, kind: str) -> None:
    from gguf import GGMLQuantizationType

    from .gguf_files.write import make_gguf  # needs the extras `gguf` and `llama-cpp`

    make_gguf(making.source, making.texts, GGMLQuantizationType[kind], file)


def _executorch(making: Making, file: Path) -> None:
    file.write_bytes(making.executorch.read_bytes())


def _executorch_int8(making: Making, file: Path) -> None:
    _ = making.executorch  # what is rounded says what torch says
    write_program(executorch_program(making.source, making.int8), file)


_MAKERS: dict[str, Callable[[Making, Path], None]] = {
    FLOAT32: _float32,
    FUSED: _fused,
    INT8: _int8,
    STATIC_INT8: _static_int8,
    INT8_WEIGHTS: partial(_weight_only, bits=8),
    INT4_WEIGHTS: partial(_weight_only, bits=4),
    OPENVINO: _openvino,
    OPENVINO_INT8: _openvino_int8,
    OPENVINO_INT8_WEIGHTS: _openvino_int8_weights,
    GGUF: partial(_gguf, kind="F16"),
    GGUF_Q8: partial(_gguf, kind="Q8_0"),
    GGUF_Q4: partial(_gguf, kind="Q4_0"),
    EXECUTORCH: _executorch,
    EXECUTORCH_INT8: _executorch_int8,
}
