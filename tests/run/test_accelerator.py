"""Runs of one process may differ in precision, which accelerate's own state does not allow."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.distributed import HashStore

from limbeck.recipe.schema import TrainingPart
from limbeck.run import accelerator as building
from limbeck.run.accelerator import build_accelerator


def test_a_second_run_has_a_precision_of_its_own(tmp_path):
    for precision, named in (("bfloat16", "bf16"), ("float32", "no"), ("bfloat16", "bf16")):
        training = TrainingPart(precision=precision, device="cpu")
        assert build_accelerator(training, tmp_path).mixed_precision == named


def test_accelerate_alone_refuses_it(tmp_path):
    """Where this fails, accelerate allows it, and the state need not be reset any more."""
    build_accelerator(TrainingPart(precision="bfloat16", device="cpu"), tmp_path)
    with pytest.raises(ValueError, match="already been initialized"):
        Accelerator(cpu=True, mixed_precision="no")


@pytest.mark.parametrize("there_before", [True, False])
def test_a_process_group_is_ended_by_who_made_it(tmp_path, monkeypatch, there_before):
    building._group_was_there.cache_clear()
    monkeypatch.delenv("FORK_LAUNCHED", raising=False)
    training = TrainingPart(precision="float32", device="cpu")
    try:
        for number in range(1 if there_before else 2):
            if there_before == (number == 0):
                torch.distributed.init_process_group(
                    "gloo", store=HashStore(), rank=0, world_size=1
                )
            accelerator = build_accelerator(training, tmp_path)
        accelerator.end_training()
        assert torch.distributed.is_initialized() == there_before
    finally:
        building._group_was_there.cache_clear()
        monkeypatch.delenv("FORK_LAUNCHED", raising=False)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def test_a_processor_has_no_number_in_the_processes_of_a_launcher(tmp_path, monkeypatch):
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "FORK_LAUNCHED": 0}.items():
        monkeypatch.setenv(name, str(value))
    building._group_was_there.cache_clear()
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        assert Accelerator(cpu=True).device == torch.device("cpu", 0)  # else this is not needed
        training = TrainingPart(precision="float32", device="cpu")
        assert build_accelerator(training, tmp_path).device == torch.device("cpu")
    finally:
        torch.distributed.destroy_process_group()
        building._group_was_there.cache_clear()
        AcceleratorState._reset_state(reset_partial_state=True)
