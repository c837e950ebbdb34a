"""How the process ends: its exit code, and which errors become a message without a traceback."""

import errno
import io
import logging
import os
import signal
import sys

from ..errors import InterruptedRunError, LimbeckError
from ..system.launcher import launched_processes
from ..system.progress import showing
from ..system.threads import wait_passively
from .app import app
from .terminal import console, error_console

_SECONDS_TO_SAY_WHY = 3
_FAIL_AT_LETTERS = ("strict", "surrogateescape")
_INTERRUPTED = 130  # as shells report a command that Ctrl-C ended
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


def main() -> None:
    """Run the command line and end the process with its exit code."""
    wait_passively()
    # Names have letters that the encoding of an output may lack, as that of files on Windows does.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in _FAIL_AT_LETTERS:
        sys.stdout.reconfigure(errors="backslashreplace")
    # transformers imports torchao where it is installed, which reports its kernels for other
    # machines, command after command.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    launched = launched_processes() > 1
    if launched:
        # As soon as one process has ended, a launcher sends SIGTERM to the others. They ignore it
        # for a few seconds, to notice the loss and say which process it was.
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_TO_SAY_WHY))
    code = run_command()
    if launched:
        _end_at_once(code)
    sys.exit(code)


def run_command() -> int:
    """Run the command of ``sys.argv`` and return its exit code; errors of the user are printed."""
    try:
        with showing(console):
            app()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except InterruptedRunError as error:
        console.print(str(error), style="yellow", highlight=False)
        return _INTERRUPTED
    except LimbeckError as error:
        return _failed(str(error))
    except (FileExistsError, NotADirectoryError) as error:
        return _failed(f"{error.filename} is a file; give a folder, or another name for it")
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        return _failed(
            f"{error.filename or 'a file'}: {error.strerror}; make room, or give folders that can"
            " be read and written (-o, LIMBECK_CACHE), and run the command again: it keeps what"
            " is complete"
        )
    return 0


def _end_at_once(code: int) -> None:
    """End one of several launched processes without Python's own shutdown.

    Python's shutdown of a process that was in a process group aborts now and then, after all work
    is done and although `Accelerator.end_training` has destroyed the group. The launcher would
    report that as a lost process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _failed(message: str) -> int:
    error_console().print(f"error: {message}", style="red", highlight=False, markup=False)
    return 1
