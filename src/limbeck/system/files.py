"""Files and folders appear completely or not at all: they are written under another name first."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import LimbeckError

_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # as libraries in Rust end what the system said


def checksum(*files: Path) -> str:
    """A hash of the contents of the files, one after another."""
    digest = hashlib.blake2b(digest_size=32)
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def expanded(place: Path | str) -> Path:
    """A path with the home folder in place of its ``~``; as it is where that is not known."""
    try:
        return Path(place).expanduser()
    except RuntimeError:  # of a user whom the system does not know, as in containers
        return Path(place)


def check_can_be_made(place: Path) -> None:
    """See that a file or folder can be written where it is not yet, before the work that fills it.

    Raises:
        NotADirectoryError: It would lie below a file.
        PermissionError: The nearest folder above it must not be written to.
    """
    # Of the parents, as files and folders appear under another name first.
    above = next(one for one in place.absolute().parents if os.access(one, os.F_OK))
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(above))
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(above))


def write_text(file: Path, text: str) -> None:
    """Write one file in UTF-8; its folder is created."""
    write_texts({file.name: text}, file.parent)


def write_texts(contents: Mapping[str, str], folder: Path) -> None:
    """Write several files, given by name and text: all of them or none."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: folder / f"{name}.part" for name in contents}
    try:
        for name, content in contents.items():
            parts[name].write_text(content, encoding="utf-8", newline="\n")
        for name, part in parts.items():
            part.replace(folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def remembered(
    file: Path, of: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """Content remembered in a JSON file; computed and written if the file is missing or outdated.

    Args:
        file: The JSON file; its folder is created.
        of: The facts that the content depends on, as JSON values; the file is outdated where it
            holds others.
        make: Computes the content; its keys must differ from those of ``of``.
    """
    found = kept(file, of)
    if found is None:
        found = {**of, **make()}
        write_text(file, json.dumps(found, ensure_ascii=False))
    return found


def kept(file: Path, of: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `remembered` keeps in a file; None if the file is missing or outdated."""
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found if {name: found.get(name) for name in of} == dict(of) else None


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A path to write to, which replaces ``file`` when the block ends without an error."""
    part = file.with_name(file.name + ".part")
    try:
        with _telling_os_errors(part):
            yield part
        give_usual_mode(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, *, replaces: bool = True) -> Iterator[Path]:
    """A folder to write into, which becomes ``folder`` when the block ends without an error.

    The remains of a killed process have a name that only this function gives; the next call
    removes them.

    Args:
        folder: Where it will be.
        replaces: Whatever is there then is removed; False takes only the place of an empty folder.

    Raises:
        OSError: It cannot be written, or what is there must not be replaced.
    """
    part = folder.with_name(folder.name + ".limbeck.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with _telling_os_errors(part):
            yield part
        give_usual_mode(*(file for file in part.rglob("*") if file.is_file()))
        if replaces:
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.exists():
            folder.rmdir()  # fails where something has been put into it meanwhile
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _telling_os_errors(place: Path) -> Iterator[None]:
    """Replaces what safetensors and tokenizers raise of a full disk by Python's own error.

    Raises:
        OSError: With the number of the system's error.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # tokenizers raises a plain Exception, and both name the system's error in their text alone.
        found = _OS_ERROR.search(str(error))
        if found is None or isinstance(error, LimbeckError):
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(place)) from error


def give_usual_mode(*files: Path) -> None:
    """Give files the permissions that the umask gives to new files.

    The safetensors library makes files readable for their owner alone, whatever the umask is.
    """
    for file in files:
        usual = file.with_name(file.name + ".mode")
        usual.touch()  # os.umask would change the umask of other threads too
        try:
            mode = usual.stat().st_mode
            if file.stat().st_mode != mode:  # where all files have one mode, none may be changed
                file.chmod(mode)
        finally:
            usual.unlink()
