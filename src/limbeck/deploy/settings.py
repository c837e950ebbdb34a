"""What `limbeck export` is told, checked before torch or a model is loaded."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import ExportError, MissingExtraError, nearest

FLOAT32, FUSED, INT8 = "onnx", "onnx-fused", "onnx-int8"
FILES = {FLOAT32: "model.onnx", FUSED: "model_fused.onnx", INT8: "model_int8.onnx"}
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportSettings:
    """What is made of a model, and what is kept of it.

    Attributes:
        formats: Keys of `FILES`.
        keep: The least share of the score that a file must have to be written.
        tasks: DIR/NAME of tasks that a model with a head of its own is scored on.
        similarity: DIR/NAME of pairs with numbers that vectors are scored on.
        force: Write files that keep less, too.
        threads: That compute; None for as many as torch uses.
        timed: Whether milliseconds are measured.
        seconds_each: Time spent on each batch size and length, at least.
    """

    formats: tuple[str, ...] = tuple(FILES)
    keep: float = 0.99
    tasks: tuple[str, ...] = ()
    similarity: tuple[str, ...] = ()
    force: bool = False
    threads: int | None = None
    timed: bool = True
    seconds_each: float = 0.5

    def check(self, output: Path) -> None:
        """See that the settings can be carried out, and that the folder may be written.

        Raises:
            ExportError: A format is not known, a number is out of its range, or the folder holds
                something.
            MissingExtraError: The packages that write and run ONNX are not installed.
        """
        if not self.formats:
            raise ExportError(f"no format is given; name some of {', '.join(FILES)}")
        for name in self.formats:
            if "past" in name or "cache" in name:
                raise ExportError(
                    f"the format {name!r} has the cache of a decoder, and decoders are exported"
                    f" without a cache, to score texts; name some of {', '.join(FILES)}"
                )
            if name not in FILES:
                raise ExportError(f"the format {name!r} is not known{nearest(name, FILES)}")
        if not 0 <= self.keep <= 1:
            raise ExportError(
                f"--keep is {self.keep:g}, and it is the share of a score that a file must keep;"
                " give a number from 0 to 1"
            )
        if self.threads is not None and self.threads < 1:
            raise ExportError(f"--threads is {self.threads}; give 1 or more")
        if output.is_file() or (output.is_dir() and any(output.iterdir())):
            what = "is a file" if output.is_file() else "is not empty"
            raise ExportError(f"{str(output)!r} {what}, and nothing is replaced; name a new folder")
        need_onnx("exporting to ONNX")


def need_onnx(what: str) -> None:
    """See that the packages of the extra `onnx` are installed.

    Args:
        what: That needs them.

    Raises:
        MissingExtraError: One is not.
    """
    if lacking := [name for name in _PACKAGES if find_spec(name) is None]:
        raise MissingExtraError(
            f"{what} needs {' and '.join(lacking)}; run: pip install 'limbeck[onnx]'"
        )
