"""The values that travel from the data to the loss: tokens, and the batch that pairs them."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """One tokenization of the texts of a batch, as one model reads it.

    Attributes:
        input_ids: Piece ids, some of them replaced where a label is asked for.
        mask: True at real tokens, False at padding.
        labels: The original piece ids.
        predicted: True where the model must predict the label; never at padding.
    """

    input_ids: Int[Tensor, "batch tokens"]
    mask: Bool[Tensor, "batch tokens"]
    labels: Int[Tensor, "batch tokens"]
    predicted: Bool[Tensor, "batch tokens"]

    def to(self, device: torch.device | str) -> "Tokens":
        """The same tokens on another device."""
        return Tokens(*(getattr(self, field.name).to(device) for field in fields(self)))

    def rows(self, start: int, stop: int) -> "Tokens":
        """Rows ``start`` to ``stop`` of every tensor."""
        return Tokens(*(getattr(self, field.name)[start:stop] for field in fields(self)))


@dataclass(frozen=True)
class Batch:
    """What the student and the teacher read of the same texts.

    With one vocabulary both are the same object.
    """

    student: Tokens
    teacher: Tokens

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        student = self.student.to(device)
        return Batch(student, student if self.one_vocabulary else self.teacher.to(device))

    def rows(self, start: int, stop: int) -> "Batch":
        """The texts ``start`` to ``stop`` as a batch of their own: a micro-batch."""
        student = self.student.rows(start, stop)
        return Batch(student, student if self.one_vocabulary else self.teacher.rows(start, stop))

    @property
    def one_vocabulary(self) -> bool:
        """Whether both models read the very same tokens."""
        return self.student is self.teacher
