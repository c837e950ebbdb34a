"""What the training loop needs of a teacher, wherever its signals come from."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import nn

from ..activations import Activations, Needs
from ..batch import Batch


@runtime_checkable
class Teacher(Protocol):
    """A source of activations; objectives cannot see which kind of teacher it is."""

    @property
    def models(self) -> Sequence[nn.Module]:
        """The models that run here, whose weights take memory; none where signals are read."""
        ...

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """The activations that ``needs`` names, without gradient."""
        ...
