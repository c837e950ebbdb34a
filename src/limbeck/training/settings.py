"""Settings of the optimizer, separate so that a recipe is checked without torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from ..system.numbers import Number


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with a linear warm-up, then decay to zero or a constant rate.

    Attributes:
        learning_rate: The highest learning rate.
        warmup_ratio: Share of the stage's steps in which the rate rises from zero.
        lr_scheduler_type: ``linear``, ``cosine`` or ``constant``.
        weight_decay: Weight decay of matrices; norms and biases have none.
        max_grad_norm: Gradients are scaled down to this norm.
        adam_beta2: AdamW's decay rate of averages of squared gradients.
        optim: Precision of AdamW's averages: ``adamw_torch`` holds them in float32,
            ``adamw_torch_8bit`` and ``adamw_torch_4bit`` in a quarter or an eighth of that, by
            torchao (extra quantize), which compiles its step first.
    """

    learning_rate: Annotated[Number, Gt(0), Le(10)] = 5e-4
    warmup_ratio: Annotated[Number, Ge(0), Le(1)] = 0.05
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: Annotated[Number, Ge(0), Le(10)] = 0.01
    max_grad_norm: Annotated[Number, Gt(0)] = 1.0
    adam_beta2: Annotated[Number, Ge(0), Lt(1)] = 0.98
    optim: Literal["adamw_torch", "adamw_torch_8bit", "adamw_torch_4bit"] = "adamw_torch"
