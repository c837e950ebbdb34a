"""A program on a leash ends with the process that started it, and with all that it has started."""

import subprocess
import sys
import time

import psutil
import pytest

# Starts another process, tells both numbers, and waits; on SIGTERM it ends only where told so.
PROGRAM = """
import os, signal, subprocess, sys, time
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), other.pid, flush=True)
time.sleep(600)
"""


def leashed(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "limbeck.system.leash", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def gone(number):
    try:
        return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("kind", ["obedient", "stubborn"])
def test_it_ends_when_the_input_is_closed(kind, monkeypatch):
    process = leashed(sys.executable, "-c", PROGRAM, kind)
    numbers = list(map(int, process.stdout.readline().split()))
    assert not any(map(gone, numbers))
    process.stdin.close()
    process.wait(30)
    ends = time.monotonic() + 10
    while not all(map(gone, numbers)) and time.monotonic() < ends:
        time.sleep(0.05)
    assert all(map(gone, numbers))
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize(("code", "ended"), [("raise SystemExit(3)", 3), ("pass", 0)])
def test_it_ends_as_the_program_does(code, ended):
    process = leashed(sys.executable, "-c", code)
    assert process.wait(60) == ended
    process.communicate()


def test_a_program_that_is_not_there():
    process = leashed("/no/such/program")
    assert process.wait(60) == 1
    _, said = process.communicate()
    assert "/no/such/program cannot be started: No such file or directory" in said
