"""Files and folders appear whole or not at all: they are written aside, then renamed."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def checksum(*files: Path) -> str:
    """A name for what the files hold, in turn."""
    digest = hashlib.blake2b(digest_size=32)
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write_text(file: Path, text: str) -> None:
    """Write one file, in UTF-8; its folder is made."""
    write_texts({file.name: text}, file.parent)


def write_texts(contents: Mapping[str, str], folder: Path) -> None:
    """Write files of those names, all or none."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: folder / f"{name}.part" for name in contents}
    try:
        for name, content in contents.items():
            parts[name].write_text(content, encoding="utf-8")
        for name, part in parts.items():
            part.replace(folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def remembered(
    file: Path, of: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """What a JSON file holds of those facts; made and written where it is of others, or missing.

    Args:
        file: Its folder is made.
        of: What the content hangs on, as JSON can hold it.
        make: Gives the content, under names of its own.
    """
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if {name: found.get(name) for name in of} != dict(of):
        found = {**of, **make()}
        write_text(file, json.dumps(found, ensure_ascii=False))
    return found


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A file to write; it takes the place of ``file`` when the block ends without error."""
    part = file.with_name(file.name + ".part")
    try:
        yield part
        give_usual_mode(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into; it takes the place of ``folder`` when the block ends without error.

    What an error or a kill leaves behind ends in ``.part`` and is removed by the next try.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        give_usual_mode(*(file for file in part.rglob("*") if file.is_file()))
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def give_usual_mode(*files: Path) -> None:
    """Give files the mode that the umask gives to new ones.

    safetensors are written for their owner alone, whatever the umask is.
    """
    for file in files:
        usual = file.with_name(file.name + ".mode")
        usual.touch()  # asking for the umask would change it for other threads
        try:
            file.chmod(usual.stat().st_mode)
        finally:
            usual.unlink()
