"""Python without the seconds of its imports: programs that tests start, in forks of one process.

Importing torch, transformers and limbeck takes seconds, which every process of a test would spend.
``start`` forks a server off the process of the tests, once that has imported them and before it
computes anything, so that no thread is lost by it. ``PYTHON`` is then a program that takes the
arguments of Python: the server forks itself, and the fork runs what they say, with the files, the
environment and the folder of that program, which ends as the fork ends. Signals are passed on, and
when the program is killed, so is the fork.

What needs a process that has imported nothing runs on ``sys.executable``.
"""

import atexit
import faulthandler
import gc
import json
import logging
import os
import random
import runpy
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import types
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

CLIENT = Path(__file__).with_name("warm_client.py")
PYTHON = sys.executable  # until the server is there
_began: list = []  # the socket whose end ends the server, and its number


def start() -> None:
    """Fork the server, and set ``PYTHON``."""
    global PYTHON
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    program = folder / "python"
    client = f'exec "{sys.executable}" -ES "{CLIENT}" "{folder}/socket" "{program}" "$@"'
    program.write_text(f"#!/bin/sh\n{client}\n", encoding="utf-8")
    program.chmod(0o755)
    mine, theirs = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as listener, theirs, warnings.catch_warnings():
        listener.bind(f"{folder}/socket")
        listener.listen(64)
        # A worker of pytest-xdist has a thread that reads; the server uses nothing of it.
        warnings.simplefilter("ignore", DeprecationWarning)
        number = os.fork()
        if number == 0:
            _serve(listener, theirs)
    _began[:] = mine, number
    PYTHON = str(program)


def stop() -> None:
    """End the server, and all that still runs on it."""
    global PYTHON
    if _began:
        mine, number = _began
        mine.close()
        os.waitpid(number, 0)  # it removes its folder
        PYTHON = sys.executable
        _began.clear()


def fork_of(program: int) -> int:
    """The number of the process that does what the program of this number was started for."""
    return int(Path(PYTHON).with_name(str(program)).read_text(encoding="utf-8"))


def _open_files() -> set[int]:
    return {int(file.name) for file in Path("/proc/self/fd").iterdir()}


def _serve(listener: socket.socket, tests: socket.socket) -> None:
    """Fork for every program that connects, and tell it how its fork has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):  # for the tests, with which this ends
        signal.signal(number, signal.SIG_IGN)
    # What pytest writes to leads nowhere. It stays open: whatever had its number next would be
    # written to by what still holds it.
    held = _open_files() - {listener.fileno(), tests.fileno()}
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in held:
        os.dup2(nowhere, number)
    gc.freeze()  # a collection in a fork does not write to the pages that all share
    links: dict[int, socket.socket] = {}  # by the number of the fork
    ready = selectors.DefaultSelector()
    ready.register(tests, selectors.EVENT_READ)
    ready.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is tests:  # they are over, or were killed
                for number in links:
                    os.kill(number, signal.SIGKILL)
                shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)
                os._exit(0)
            elif key.fileobj is listener:
                number, link = _forked(listener, held)
                links[number] = link
                ready.register(link, selectors.EVENT_READ, number)
                ready.register(os.pidfd_open(number), selectors.EVENT_READ, number)
            elif isinstance(key.fileobj, socket.socket):  # closed: the program was killed
                os.kill(key.data, signal.SIGKILL)
                ready.unregister(key.fileobj)
            elif key.data in links:
                ready.unregister(key.fileobj)
                os.close(key.fd)
                link = links.pop(key.data)
                if link in ready.get_map():
                    ready.unregister(link)
                _, status = os.waitpid(key.data, 0)
                with link, suppress(OSError):
                    link.sendall(status.to_bytes(8, "little"))


def _forked(listener: socket.socket, held: set[int]) -> tuple[int, socket.socket]:
    """The number of a new fork that does what a program says, and the socket to that program."""
    link, _ = listener.accept()
    head, files, _, _ = socket.recv_fds(link, 8, 3)
    size, text = int.from_bytes(head, "little"), b""
    while len(text) < size:
        text += link.recv(size - len(text))
    said = json.loads(text)
    number = os.fork()
    if number == 0:
        _alone(files, held | {0, 1, 2})
        _become(said)
    for file in files:
        os.close(file)
    named = Path(listener.getsockname()).parent / str(said["program"])
    named.write_text(str(number), encoding="utf-8")
    link.sendall(number.to_bytes(8, "little"))
    return number, link


def _alone(files: list[int], held: set[int]) -> None:
    """Have these files as input and outputs, and none that the server has opened."""
    for place, file in enumerate(files):
        os.dup2(file, place)
    for number in _open_files() - held:
        with suppress(OSError):  # the listing's own is closed already
            os.close(number)


def _become(said: dict) -> NoReturn:
    """Be a Python that was started with these arguments, and end as it would."""
    os.setsid()  # the program alone has the signals of its terminal, and passes them on
    for number, how in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, None)):
        ignored = number in said["ignored"]
        signal.signal(number, signal.SIG_IGN if ignored else how or signal.SIG_DFL)
    os.chdir(said["folder"])
    os.environ.clear()
    os.environ.update(said["environment"])
    sys.executable = said["python"]
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = os.fdopen(0, encoding="utf-8")
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8")
    sys.stdout.reconfigure(write_through=at_once)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace")
    faulthandler.enable(sys.stderr)
    for handler in filter(None, (known() for known in logging._handlerList)):
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)
    tempfile.tempdir = None  # that of this environment is found when it is needed
    warnings.resetwarnings()
    random.seed()
    status = _status_of(said["arguments"])
    threading._shutdown()
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        with suppress(OSError):
            file.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _status_of(arguments: list[str]) -> int:
    """Run a program as Python does: its exit status, or the signal that ended it below 0."""
    if arguments[0] == "-u":
        sys.stdout.reconfigure(write_through=True)
        arguments = arguments[1:]
    kind, folders = arguments[0], os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = kind in ("-m", "-c")
    sys.argv = arguments[1:] if kind == "-m" else arguments
    first = str(Path.cwd()) if named else str(Path(kind).resolve().parent)
    sys.path[:0] = [first, *(folder for folder in folders if folder)]
    try:
        if kind == "-m":
            sys.modules.pop(arguments[1], None)  # it is run, and not what the tests have imported
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            sys.argv = ["-c", *arguments[2:]]
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(arguments[1], "<string>", "exec"), vars(sys.modules["__main__"]))
        else:
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code & 255 if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0
