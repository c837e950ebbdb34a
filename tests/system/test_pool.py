import errno
import multiprocessing.queues
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from limbeck.errors import DeviceError
from limbeck.system.pool import in_order


def process_of(number: int) -> tuple[int, int]:
    time.sleep(0.02 * (number % 3))  # so that later items are done first
    return number, os.getpid()


def half_ends(number: int) -> int:
    if number == 3:
        os._exit(1)
    return number


def fails(number: int) -> int:
    return 1 // number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_items(processes):
    found = list(in_order(process_of, range(12), processes=processes))
    assert [number for number, _ in found] == list(range(12))
    others = {process for _, process in found} - {os.getpid()}
    assert len(others) == (0 if processes == 1 else 2)


def test_items_are_read_only_a_few_ahead():
    read = []
    items = (read.append(number) or number for number in range(1000))
    pool = in_order(process_of, items, processes=2)
    assert next(pool)[0] == 0 and len(read) < 10
    pool.close()


def test_errors_and_lost_processes_are_told():
    with pytest.raises(ZeroDivisionError):
        list(in_order(fails, [1, 0, 1], processes=2))
    with pytest.raises(BrokenProcessPool):
        list(in_order(half_ends, range(6), processes=2))


def test_processes_end_with_the_one_that_has_started_them():
    code = (
        "import time\nfrom limbeck.system.pool import in_order\n"
        "pool = in_order(time.sleep, [0.0] * 3 + [60.0] * 9, processes=2)\n"
        "next(pool)\nprint('begun', flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "begun\n"
    found = subprocess.run(
        ["pgrep", "-P", str(parent.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(found) >= 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{process}").exists() for process in found):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_where_processes_cannot_share_a_lock_one_is_advised(monkeypatch):
    """As without /dev/shm, which some containers lack."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(multiprocessing.queues, "Queue", refuse)
    assert list(in_order(abs, [-1], processes=1)) == [1]
    with pytest.raises(DeviceError, match=r"not implemented\), as where /dev/shm .*num_proc: 1"):
        next(in_order(abs, [-1], processes=2))
