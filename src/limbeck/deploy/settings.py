"""What `limbeck export` is told, checked before torch or a model is loaded."""

import os
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

from ..errors import ExportError
from .formats import FORMATS, check_formats, need_engine


@dataclass(frozen=True)
class ExportSettings:
    """What is made of a model, and what is kept of it.

    Attributes:
        formats: Keys of `FORMATS`; None for all that suit the model and whose packages are
            installed.
        keep: The least share of the score that a file must have to be written.
        tasks: DIR/NAME of tasks that a model with a head of its own is scored on.
        similarity: DIR/NAME of pairs with numbers that vectors are scored on.
        force: Write files that keep less, too.
        threads: That compute; None for as many as torch uses.
        timed: Whether milliseconds are measured.
        seconds_each: Time spent on each batch size and length, at least.
    """

    formats: tuple[str, ...] | None = None
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
                something or cannot be made.
            MissingExtraError: The packages of a named format are not installed.
        """
        if self.formats is not None:
            if not self.formats:
                raise ExportError(f"no format is given; name some of {', '.join(FORMATS)}")
            check_formats(self.formats)
        if not 0 <= self.keep <= 1:
            raise ExportError(
                f"--keep is {self.keep!r}, and it is the share of a score that a file must keep;"
                " give a number from 0 to 1"
            )
        check_threads(self.threads)
        _check_place(output.resolve())
        if output.is_file() or (output.is_dir() and any(output.iterdir())):
            what = "is a file" if output.is_file() else "is not empty"
            raise ExportError(f"{str(output)!r} {what}, and nothing is replaced; name a new folder")
        for name in self.formats or ():
            need_engine(FORMATS[name].engine, f"the format {name}")


def check_threads(threads: int | None) -> None:
    """See that there are threads, or that their number is left open (None).

    Raises:
        ExportError: There are none.
    """
    if threads is not None and (not isinstance(threads, Integral) or threads < 1):
        raise ExportError(f"--threads is {threads!r}; give a whole number of 1 or more")


def _check_place(output: Path) -> None:
    """See that a folder can be made, which is done last, when all files are.

    Args:
        output: Absolute, without symbolic links.

    Raises:
        ExportError: It would lie below a file, or in a folder that must not be written to, or it
            is a mount point.
    """
    # Of the parents, as the folder appears under another name first.
    above = next(one for one in output.parents if os.access(one, os.F_OK))
    if not above.is_dir():
        raise ExportError(
            f"{str(output)!r} cannot be made, as {str(above)!r} is no folder; name another place"
        )
    if not os.access(above, os.W_OK | os.X_OK):
        raise ExportError(
            f"{str(output)!r} cannot be made, as {str(above)!r} must not be written to; name"
            " another place, or change its permissions"
        )
    if output.is_mount():
        raise ExportError(
            f"{str(output)!r} is a mount point, whose place no other folder can take; name a folder"
            " inside it"
        )
