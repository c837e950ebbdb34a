"""AdamW for the learner, and its learning rate as a pure function of the step.

Source: Loshchilov and Hutter 2019, arXiv:1711.05101.
"""

import math

import torch
from torch import nn

from .settings import OptimizerSettings


def build_optimizer(learner: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over all trainable parameters of the learner, without weight decay of vectors."""
    parameters = [p for p in learner.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.dim() >= 2]
    vectors = [p for p in parameters if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(0.9, settings.adam_beta2),
        eps=1e-6,
        fused=True,
    )


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """The learning rate of a step, counted from 0, without any state that would have to be resumed.

    >>> half = OptimizerSettings(learning_rate=1.0, warmup_ratio=0.5)
    >>> [learning_rate(step, 8, half) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warmup = round(steps * settings.warmup_ratio)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    left = (steps - step) / max(1, steps - warmup)
    if settings.lr_scheduler_type == "linear":
        return settings.learning_rate * left
    if settings.lr_scheduler_type == "cosine":
        return settings.learning_rate * 0.5 * (1 - math.cos(math.pi * left))
    return settings.learning_rate
