"""Files in object stores and on servers, by fsspec: s3://, gs://, hf://, https:// and others."""

import io
from pathlib import PurePosixPath
from typing import Any

from ..errors import DataError, first_line

_AT_ONCE = 1 << 20  # bytes
# Of what stores say of a file, the facts that tell one content from another.
_TELLING = ("ETag", "etag", "blob_id", "md5Hash", "size", "mtime", "LastModified", "created")


def is_remote(path: str) -> bool:
    """Whether a path names its protocol, as `s3://bucket/file.txt.gz` does."""
    protocol, mark, rest = path.partition("://")
    return bool(mark and rest and protocol.replace("+", "").isalnum())


def name_of(path: str) -> PurePosixPath:
    """A path whose ending says what a file is: of a remote one without what asks its server."""
    if not is_remote(path):
        return PurePosixPath(path)
    return PurePosixPath(path.partition("://")[2].partition("?")[0])


def open_remote(path: str) -> io.BufferedReader:
    """A remote file, opened to be read.

    Raises:
        DataError: It cannot be opened; the message says why.
    """
    import fsspec

    try:
        opened = fsspec.open(path, "rb").open()
    except Exception as error:  # every store raises errors of its own
        raise _unreadable(path, error) from error
    return io.BufferedReader(opened, _AT_ONCE)  # whose `readline` takes a limit, as theirs do not


def content_of_remote(path: str) -> str:
    """What a store says of a file that changes with its content: a hash or tag, else size and time.

    Raises:
        DataError: The file cannot be looked up; the message says why.
    """
    import fsspec

    try:
        store, place = fsspec.core.url_to_fs(path)
        facts: dict[str, Any] = store.info(place)
    except Exception as error:  # as above
        raise _unreadable(path, error) from error
    told = [f"{name}: {facts[name]}" for name in _TELLING if facts.get(name) is not None]
    return "; ".join([path, *told])


def _unreadable(path: str, error: Exception) -> DataError:
    missing = isinstance(error, ImportError)
    cure = "install that package" if missing else "look whether it is there and may be read"
    return DataError(f"{path} cannot be read: {first_line(error)}; {cure}, or give a local file")
