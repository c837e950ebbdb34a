"""The values that travel from the data to the loss: tokens, and the batch that pairs them."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """One tokenization of the texts of a batch, as one model reads it.

    Attributes:
        input_ids: Token ids, some of them replaced where a label is asked for.
        mask: True at real tokens, False at padding.
        labels: The original token ids.
        predicted: True where the model must predict the label; never at padding.
        positions: Of each token in its document, where several that do not see one
            another stand in a row; None where a row is one text.
        utf8_bytes: Of the text that each label stands for; None where that is not known.
    """

    input_ids: Int[Tensor, "batch tokens"]
    mask: Bool[Tensor, "batch tokens"]
    labels: Int[Tensor, "batch tokens"]
    predicted: Bool[Tensor, "batch tokens"]
    positions: Int[Tensor, "batch tokens"] | None = None
    utf8_bytes: Int[Tensor, "batch tokens"] | None = None

    @property
    def documents(self) -> Int[Tensor, "batch tokens"] | None:
        """The document of each token, counted along its row; None where a row is one text."""
        return None if self.positions is None else (self.positions == 0).cumsum(-1)

    def to(self, device: torch.device | str) -> "Tokens":
        """The same tokens on another device."""
        return self._each(lambda part: part.to(device))

    def rows(self, start: int, stop: int) -> "Tokens":
        """Rows ``start`` to ``stop`` of every tensor."""
        return self._each(lambda part: part[start:stop])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Tokens":
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: change(part) for name, part in parts.items() if part is not None}
        return replace(self, **changed)


@dataclass(frozen=True)
class Links:
    """Which tokens of student and teacher stand for the same text: those of the same group.

    Attributes:
        view: What the student reads where it is compared; None if that is what it
            reads anyway.
        student: The group of each of the tokens that it reads there; -1 for none.
        teacher: The group of each of the teacher's tokens; likewise.
        groups: The groups in the place of tokens, for what compares token by token.
        student_next: The group that the token belongs to which the student predicts at
            each of its tokens; -1 for none. Decoders alone have it.
        teacher_next: Likewise of the teacher.
    """

    view: Tokens | None
    student: Int[Tensor, "batch view_tokens"]
    teacher: Int[Tensor, "batch teacher_tokens"]
    groups: Tokens
    student_next: Int[Tensor, "batch view_tokens"] | None = None
    teacher_next: Int[Tensor, "batch teacher_tokens"] | None = None

    def to(self, device: torch.device | str) -> "Links":
        """The same links on another device."""
        return self._each(lambda part: part.to(device))

    def rows(self, start: int, stop: int) -> "Links":
        """Of the texts ``start`` to ``stop``."""
        return self._each(
            lambda part: part.rows(start, stop) if isinstance(part, Tokens) else part[start:stop]
        )

    def _each(self, change: Callable[[Any], Any]) -> "Links":
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: change(part) for name, part in parts.items() if part is not None}
        return replace(self, **changed)


@dataclass(frozen=True)
class Batch:
    """What the student and the teacher read of the same texts.

    With one vocabulary both are the same object. With two, links say where they can
    be compared.
    """

    student: Tokens
    teacher: Tokens
    links: Links | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        student = self.student.to(device)
        teacher = student if self.one_vocabulary else self.teacher.to(device)
        return Batch(student, teacher, self.links.to(device) if self.links else None)

    def rows(self, start: int, stop: int) -> "Batch":
        """The texts ``start`` to ``stop`` as a batch of their own: a micro-batch."""
        student = self.student.rows(start, stop)
        teacher = student if self.one_vocabulary else self.teacher.rows(start, stop)
        return Batch(student, teacher, self.links.rows(start, stop) if self.links else None)

    @property
    def compared(self) -> "Batch":
        """What a comparison of the two goes over: groups where there are links, else tokens."""
        return Batch(self.links.groups, self.links.groups) if self.links else self

    @property
    def one_vocabulary(self) -> bool:
        """Whether both models read the very same tokens."""
        return self.student is self.teacher
