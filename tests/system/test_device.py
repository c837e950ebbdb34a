"""Precision follows the hardware, and its reason is given."""

import pytest
import torch

from limbeck.errors import DeviceError
from limbeck.system import device as module
from limbeck.system.device import (
    bf16_in_hardware,
    bf16_time_ratio,
    choose_device,
    choose_precision,
    describe_device,
    emulation_warning,
)

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def processor(monkeypatch, *instructions):
    there = dict.fromkeys(instructions, True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: there)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


@pytest.mark.parametrize(
    ("instructions", "name"),
    [
        (("avx2",), "float32"),
        (("avx2", "avx512_f", "avx512_vnni"), "float32"),
        (("avx2", "avx512_f", "avx512_bf16"), "bfloat16"),
        (("avx2", "avx512_f", "amx_tile", "amx_bf16"), "bfloat16"),
        (("neon",), "float32"),
        (("neon", "bf16"), "bfloat16"),
    ],
)
def test_a_processor(monkeypatch, instructions, name):
    processor(monkeypatch, *instructions)
    found = choose_precision("auto", CPU)
    assert found.name == name and "bfloat16" in found.reason
    assert describe_device(CPU).count("thread") == 1


@pytest.mark.parametrize("limit", ["AVX2", "avx512_core"])
def test_onednn_may_be_limited(monkeypatch, limit):
    processor(monkeypatch, "avx512_bf16", "amx_bf16")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    found = choose_precision("auto", CPU)
    assert found.name == "float32" and limit.upper() in found.reason
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX")
    assert choose_precision("auto", CPU).name == "bfloat16"


@pytest.mark.parametrize(("capability", "name"), [((7, 5), "float32"), ((9, 0), "bfloat16")])
def test_a_gpu(monkeypatch, capability, name):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    found = choose_precision("auto", CUDA)
    assert found.name == name and "a GPU, compute capability" in found.reason


def test_the_requested_precision_is_used_with_a_warning(monkeypatch):
    processor(monkeypatch, "avx2")
    monkeypatch.setattr(module, "bf16_time_ratio", lambda _: 13.9)
    asked = choose_precision("bfloat16", CPU)
    assert asked.half
    assert "13.9 times as long" in (emulation_warning(asked, CPU) or "")
    assert emulation_warning(choose_precision("auto", CPU), CPU) is None
    processor(monkeypatch, "amx_bf16")
    assert emulation_warning(asked, CPU) is None


def test_the_ratio_is_measured():
    assert bf16_time_ratio(CPU) > 0


@pytest.mark.parametrize(
    ("cuda", "mps", "name"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_first_device_that_is_there(monkeypatch, cuda, mps, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device().type == name
    assert choose_device("cpu").type == "cpu"


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="device is mps.*use auto or"):
        choose_device("mps")


def test_an_apple_gpu_runs_in_float32():
    has, reason = bf16_in_hardware(MPS)
    assert not has and "mps" in reason
