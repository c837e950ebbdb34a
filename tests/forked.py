"""Several processes of one program, as torchrun starts them, forked after the imports they share.

    python forked.py PROCESSES [-m] PROGRAM ARGUMENT...

Nothing has been computed before the fork, so no thread is lost by it. As with torchrun, the others
are told to end when one fails.
"""

import os
import runpy
import signal
import socket
import sys
import time
import traceback

import limbeck.cli.app
import limbeck.run.distill  # noqa: F401 - what every process would import

SECONDS = 30  # for the others to end, once one has failed


def child(rank: int, processes: int, port: int, program: list[str]) -> int:
    """What one process does, and its exit status."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in (own | place).items()}
    module = program[0] == "-m"
    sys.argv = program[module:]
    try:
        if module:
            runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(program[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main(count: str, *program: str) -> None:
    processes = int(count)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = set()
    for rank in range(processes):
        number = os.fork()
        if number == 0:
            status = child(rank, processes, port, list(program))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        running.add(number)
    failed, until = 0, None
    while running:
        number, status = os.waitpid(-1, os.WNOHANG)
        if number:
            running.discard(number)
            if status and until is None:
                failed, until = 1, time.monotonic() + SECONDS
                for other in running:
                    os.kill(other, signal.SIGTERM)
        elif until and time.monotonic() > until:
            for other in running:
                os.kill(other, signal.SIGKILL)
        time.sleep(0.01)
    sys.exit(failed)


if __name__ == "__main__":
    main(*sys.argv[1:])
