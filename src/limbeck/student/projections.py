"""Trainable size adapters: they stand beside the student, and are never exported with it."""

import torch
from torch import Tensor, nn


class Projections(nn.Module):
    """Linear maps without bias, by name, that carry student states to the teacher's width.

    Args:
        sizes: (student width, teacher width) by name.
        seed: Decides the first weights.
    """

    def __init__(self, sizes: dict[str, tuple[int, int]], *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.maps = nn.ModuleDict(
                {
                    name: nn.Linear(narrow, wide, bias=False)
                    for name, (narrow, wide) in sizes.items()
                }
            )

    def forward(self, name: str, states: Tensor) -> Tensor:
        """The states at the teacher's width; unchanged where no map of that name is needed."""
        return self.maps[name](states) if name in self.maps else states
