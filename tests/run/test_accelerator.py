"""Runs of one process may differ in precision, which accelerate's own state does not allow."""

import pytest
from accelerate import Accelerator

from limbeck.recipe.schema import TrainingPart
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
