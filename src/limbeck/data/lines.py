"""Numbered lines of text files, gzipped or not; every problem is reported with its line."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

from ..errors import DataError
from .remote import is_remote, name_of, open_remote

LONGEST_LINE = 10_000_000  # bytes; longer lines are rarely text and would stall a tokenizer
# How files begin that are no text in UTF-8 -> what they are, and what to do.
_OTHERS = {
    b"\xff\xfe\x00\x00": "is UTF-32; convert it: iconv -f UTF-32 -t UTF-8",
    b"\xff\xfe": "is UTF-16; convert it: iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "is UTF-16; convert it: iconv -f UTF-16 -t UTF-8",
    b"\x1f\x8b": "is packed by gzip; end its name in .gz",
    b"\xfd7zXZ": "is packed by xz; unpack it: xz -d",
    b"\x28\xb5\x2f\xfd": "is packed by zstd; unpack it: zstd -d",
}


OLD_ENDS = "end lines with \\n, not with a carriage return alone: tr '\\r' '\\n' < OLD > NEW"


def read_texts(file: Path | str) -> Iterator[tuple[int, str]]:
    """As `read_lines`, of a file in which a line is a text or a row.

    Raises:
        DataError: As `read_lines`; or all of the file is one line, in which carriage returns stand.
    """
    lines = read_lines(file)
    first = list(islice(lines, 2))
    if len(first) == 1 and "\r" in first[0][1].strip():
        raise DataError(
            f"{file} is one line with carriage returns in it, which end the lines of old Mac files;"
            f" {OLD_ENDS}"
        )
    yield from chain(first, lines)


def read_lines(file: Path | str, *, longest: int = LONGEST_LINE) -> Iterator[tuple[int, str]]:
    """The number of every line, counted from 1, and the line with its line end.

    Args:
        file: A file in UTF-8, with or without a byte order mark, here or in an object store;
            gzipped if its name ends in .gz.
        longest: Bytes of a line at most.

    Raises:
        DataError: A line is not text, or cannot be read; the message names it.
    """
    number = 0
    try:
        with _opened(file) as stream:
            while line := stream.readline(longest + 1):
                number += 1
                if len(line) > longest:
                    others = f"; {OLD_ENDS}" if b"\r" in line[:-1] else ""
                    raise DataError(
                        f"line {number} of {file} is longer than {longest} bytes; break it"
                        f" into documents, one a line{others}"
                    )
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                text = line.decode("utf-8")
                if (
                    "\0" in text
                ):  # UTF-16 without a byte order mark often decodes as UTF-8 with NULs
                    place = line.index(0)
                    order = "BE" if number == 1 and place % 2 == 0 else "LE"
                    raise DataError(
                        f"line {number} of {file} holds a NUL byte (at {place} of the line), which"
                        f" no text has; if the file is UTF-16, convert it: iconv -f UTF-16{order}"
                        " -t UTF-8"
                    )
                yield number, text
    except UnicodeDecodeError as error:
        begin = error.object if number == 1 else b""
        if other := next((said for mark, said in _OTHERS.items() if begin.startswith(mark)), None):
            raise DataError(f"line 1 of {file} is not UTF-8: the file {other}") from error
        raise DataError(
            f"line {number} of {file} is not UTF-8 (byte {error.object[error.start]:#04x} at"
            f" {error.start} of the line); convert the file: iconv -f OLD_ENCODING -t UTF-8"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        with _raw(file) as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
        if not compressed:
            raise DataError(
                f"{file} ends in .gz but is no gzip file ({error}); rename it or compress it"
            ) from error
        raise DataError(
            f"{file} is truncated or broken after line {number} ({error}); download it again"
        ) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


@contextmanager
def _opened(file: Path | str) -> Iterator[io.BufferedReader]:
    with _raw(file) as raw:
        if name_of(str(file)).suffix == ".gz":
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield io.BufferedReader(unpacked, buffer_size=1 << 20)
        else:
            yield raw


def _raw(file: Path | str) -> io.BufferedReader:
    return open_remote(str(file)) if is_remote(str(file)) else Path(file).open("rb")
