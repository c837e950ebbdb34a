"""What steps have found, on the device until it is read: no step waits for the one before it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import DivergedError
from .checkpoint import Position
from .stage import Stage


@dataclass(frozen=True)
class Figures:
    """Figures of a step, over all processes.

    Attributes:
        means: Mean of each objective over its items.
        gradient_norm: Of all gradients together, before they were scaled down.
        tokens: Number of tokens that the student read.
    """

    means: dict[str, float]
    gradient_norm: float
    tokens: int


@dataclass(frozen=True)
class Taken:
    """A step that was begun; the device may not have finished it.

    Attributes:
        stage: The stage of the step.
        position: The position of the run before it.
        values: Means of the objectives in order, the gradients' norm, and the number of tokens.
    """

    stage: Stage
    position: Position
    values: Float[Tensor, " figures"]

    @property
    def means(self) -> dict[str, float]:
        """Mean of each objective over its items; waits for the device.

        Raises:
            DivergedError: The loss or its gradient is not finite; no step was taken.
        """
        found = read([self])
        if error := divergence([self], found):
            raise error
        return found[0].means


def read(steps: Sequence[Taken]) -> list[Figures]:
    """The figures of steps; waits once, until the device has finished the last of them."""
    if not steps:
        return []
    rows = torch.stack([step.values for step in steps]).tolist()
    return [
        Figures(dict(zip(step.stage.objectives, row, strict=False)), row[-2], int(row[-1]))
        for step, row in zip(steps, rows, strict=True)
    ]


def divergence(steps: Sequence[Taken], figures: Sequence[Figures]) -> DivergedError | None:
    """The error of the first step whose figures are not all finite; None where all are."""
    for step, found in zip(steps, figures, strict=True):
        if all(map(math.isfinite, [*found.means.values(), found.gradient_norm])):
            continue
        stage = step.stage
        values = ", ".join(f"{name} {value}" for name, value in found.means.items())
        return DivergedError(
            f"the loss is not finite at batch {step.position.step} of stage {stage.name!r}"
            f" ({values}, gradient norm {found.gradient_norm}); no step was taken and the last"
            " checkpoint is whole. Lower the learning rate"
            f" ({stage.optimizer.learning_rate:g}); bfloat16 may need precision: float32"
        )
    return None


class Unread:
    """The steps of a stage whose figures were not read yet.

    Attributes:
        failed: 0 on the device; 1 after a step that was not finite. No later step changes anything.
        since: When the last ones were read, by `time.perf_counter`.
    """

    def __init__(self, device: torch.device) -> None:
        self.failed = torch.zeros((), device=device)
        self.since = time.perf_counter()
        self._steps: list[Taken] = []
        self._error: DivergedError | None = None

    def add(self, step: Taken) -> None:
        """Keep a step until it is read."""
        self._steps.append(step)

    def read(self) -> list[Figures]:
        """The figures of all of them; waits for the device."""
        found = read(self._steps)
        self._error = self._error or divergence(self._steps, found)
        self._steps, self.since = [], time.perf_counter()
        return found

    def check(self) -> None:
        """See that every step that was read was finite.

        Raises:
            DivergedError: One was not; nothing has changed since before it.
        """
        if self._error:
            raise self._error
