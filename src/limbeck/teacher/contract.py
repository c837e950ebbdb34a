"""What the training loop needs of a teacher, wherever its signals come from."""

from typing import Protocol, runtime_checkable

from ..activations import Activations, Needs
from ..batch import Batch


@runtime_checkable
class Teacher(Protocol):
    """A source of activations; objectives cannot see which kind of teacher it is."""

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """The activations that ``needs`` names, without gradient."""
        ...
