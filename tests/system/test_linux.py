"""Memory and processor facts on Linux, and no effect on other systems."""

import sys

import pytest

from limbeck.system import linux, memory
from limbeck.system.device import describe_device
from limbeck.system.linux import (
    keep_freed_memory,
    peak_resident_bytes,
    processor_model,
    reset_peak_resident_bytes,
)

MEBIBYTE = 2**20
LINUX = sys.platform.startswith("linux")


def test_the_peak_is_measured_and_reset():
    """Where the kernel does not let it be reset, the peak stays, and that is said."""
    block = bytearray(200 * MEBIBYTE)
    high = peak_resident_bytes()
    assert (high is not None) == LINUX
    assert not LINUX or high > len(block)
    del block
    reset = reset_peak_resident_bytes()
    low = peak_resident_bytes()
    if reset:
        assert low < high - 100 * MEBIBYTE
    else:
        assert (low or 0) >= (high or 0)


def test_glibc_takes_the_settings():
    """Fails where glibc drops an option, or its numbers change."""
    assert keep_freed_memory() is (linux._c_function("mallopt") is not None)


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(linux, "_PROC", tmp_path / "no such folder")
    monkeypatch.setattr(sys, "platform", "darwin")


@pytest.mark.usefixtures("elsewhere")
def test_nothing_happens_where_linux_is_not_there():
    assert peak_resident_bytes() is None and processor_model() is None
    assert not keep_freed_memory() and not reset_peak_resident_bytes()
    assert not memory.restart_peak()


def test_the_portable_peak_stands_in(monkeypatch, tmp_path):
    monkeypatch.setattr(linux, "_PROC", tmp_path)
    assert (memory.peak_process_bytes() or 0) > MEBIBYTE
    monkeypatch.setattr(memory, "resource", None)  # as on Windows
    assert memory.peak_process_bytes() is None


@pytest.mark.usefixtures("elsewhere")
def test_a_processor_without_a_name_is_still_described():
    import torch

    assert "thread" in describe_device(torch.device("cpu"))
