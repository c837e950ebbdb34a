"""The program at ``warm.PYTHON``: has its arguments done by a fork of the server, and ends as it.

python warm_client.py SOCKET PROGRAM ARGUMENT...
"""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def received(link):
    said = link.recv(8, socket.MSG_WAITALL)
    if len(said) < 8:
        sys.exit("the server of tests/warm.py has ended")
    return int.from_bytes(said, "little")


def main(server, program, *arguments):
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-m", "-c", "-u")):
        os.execv(sys.executable, [sys.executable, *arguments])  # what the server does not know
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    ignored = [number for number in PASSED_ON if signal.getsignal(number) == signal.SIG_IGN]
    said = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes longer to import
        "ignored": ignored,
        "python": program,
        "program": os.getpid(),
    }
    text = json.dumps(said).encode()
    link = socket.socket(socket.AF_UNIX)
    link.connect(server)
    socket.send_fds(link, [len(text).to_bytes(8, "little")], [0, 1, 2])
    link.sendall(text)
    for place in (0, 1):  # a pipe ends when the fork closes it
        os.close(place)
    fork = received(link)
    for number in PASSED_ON:
        if number not in ignored:
            signal.signal(number, lambda number, _: os.kill(fork, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    status = received(link)
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    if os.WTERMSIG(status) != signal.SIGKILL:
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))


if __name__ == "__main__":  # and not when doctests are looked for in it
    main(*sys.argv[1:])
