"""The student that the benchmarks of a training step train, and what one of its steps takes."""

from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from limbeck.recipe.setup import Setup
from limbeck.run.learner import build_learner
from limbeck.training.optimizer import build_optimizer

STUDENT: dict[str, Any] = {
    "num_hidden_layers": 3,
    "hidden_size": 256,
    "num_attention_heads": 8,
    "intermediate_size": 1024,
}
FROM_TEACHER = STUDENT | {"init_from_teacher": {"layers": "uniform", "width": "cut"}}


def ready(
    setup: Setup, student: PreTrainedModel, accelerator: Accelerator
) -> tuple[Any, nn.Module, Optimizer]:
    """The learner of the first stage, the same prepared for the device, and its optimizer."""
    learner = build_learner(setup, student, 0)
    wrapped = accelerator.prepare(learner).train(False)
    return learner, wrapped, build_optimizer(learner, setup.stages[0].optimizer)
