"""What the files of a model are made of, and by which function each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..run.task_batches import Reading
from .batches import batches_of
from .engines import Feed, open_file
from .formats import FLOAT32, FORMATS, FUSED, INT8
from .graphs import float32_graph, fused_graph, int8_graph, write_graph
from .int8_range import Int8Range, int8_range
from .sizes import check_sizes
from .source import Source

_CALIBRATED_AT_ONCE = 8


@dataclass(frozen=True)
class Making:
    """A model of which files are made.

    Attributes:
        source: The model.
        place: A folder for what is made once and used for several files.
        calibration: Texts that ranges of activations are read off; none of them is scored.
        int8: How weights are rounded to 8 bits.
    """

    source: Source
    place: Path
    calibration: Sequence[Reading]
    int8: Int8Range = field(default_factory=int8_range)

    @cached_property
    def float32(self) -> Path:
        """The ONNX file in float32, which says what torch says."""
        file = self.place / FORMATS[FLOAT32].file
        write_graph(float32_graph(self.source), file)
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


_MAKERS: dict[str, Callable[[Making, Path], None]] = {
    FLOAT32: _float32,
    FUSED: _fused,
    INT8: _int8,
}
