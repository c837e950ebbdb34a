"""Steps that torch compiles first."""

import pytest
import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed

from limbeck.errors import TrainingError
from limbeck.training.optimizer import step_unless


class Compiled(torch.optim.SGD):
    """An optimizer whose step fails with an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__([nn.Parameter(torch.zeros(1))])
        self.error = error

    def step(self, closure=None):
        raise self.error


def test_a_step_that_cannot_be_compiled_says_what_to_remove():
    """A file of half an earlier compilation ended each run with a traceback of torch."""
    broken = BackendCompilerFailed("inductor", RuntimeError("C++ compile error"), None)
    with pytest.raises(TrainingError, match="C.. compile error.*remove torchinductor_USER in"):
        step_unless(Compiled(broken), torch.tensor(0.0))
    step_unless(Compiled(broken), torch.tensor(1.0))  # nothing is changed
    with pytest.raises(RuntimeError, match="not enough memory"):
        step_unless(Compiled(RuntimeError("not enough memory")), torch.tensor(0.0))
