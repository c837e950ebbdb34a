"""The values that travel from the data to the loss: tokens, and batches that pair them."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

UNLABELED = -100  # the class of rows and words whose class is not known


@dataclass(frozen=True)
class Tokens:
    """The tokens of a batch as one model reads them.

    Attributes:
        input_ids: Token ids; where a label is to be predicted, they may be masked.
        mask: True at real tokens, False at padding.
        labels: The original token ids; of rows of a task, at the predicted tokens the number of
            the row's or the word's class, and `UNLABELED` where it is not known.
        predicted: True where the model must predict the label; never at padding. A row of a task
            has one such token if the whole text is classified, or one for each word.
        positions: Position of each token in its document, where a row holds several documents
            that do not attend to each other; None where a row is one text.
        utf8_bytes: UTF-8 bytes of the text that each label stands for; None where not known.
        token_type_ids: Which text of a pair each token belongs to, where the model distinguishes
            them; None otherwise.
        scores: Where numbers are to be predicted, the number at each predicted token; NaN where it
            is not known. None otherwise.
        queries: Of rows that are pairs of a query and a document, the number of each row's query:
            the same for rows of one query. None where it is not known.
    """

    input_ids: Int[Tensor, "batch tokens"]
    mask: Bool[Tensor, "batch tokens"]
    labels: Int[Tensor, "batch tokens"]
    predicted: Bool[Tensor, "batch tokens"]
    positions: Int[Tensor, "batch tokens"] | None = None
    utf8_bytes: Int[Tensor, "batch tokens"] | None = None
    token_type_ids: Int[Tensor, "batch tokens"] | None = None
    scores: Float[Tensor, "batch tokens"] | None = None
    queries: Int[Tensor, " batch"] | None = None

    @property
    def documents(self) -> Int[Tensor, "batch tokens"] | None:
        """The number of each token's document within its row; None where a row is one text."""
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
        view: A second tokenization that the student reads for the comparison; None where its
            usual tokens are compared.
        student: The group of each student token that is compared; -1 for no group.
        teacher: The group of each teacher token; -1 for no group.
        groups: One entry for each group, in the place of tokens, for objectives that compare
            token by token.
        student_next: For decoders, the group of the token that the student predicts at each of
            its tokens; -1 for no group. None for encoders.
        teacher_next: The same for the teacher.
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
        """The links of the texts ``start`` to ``stop``."""
        return self._each(
            lambda part: part.rows(start, stop) if isinstance(part, Tokens) else part[start:stop]
        )

    def _each(self, change: Callable[[Any], Any]) -> "Links":
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: change(part) for name, part in parts.items() if part is not None}
        return replace(self, **changed)


@dataclass(frozen=True)
class Batch:
    """The tokens of the same texts for the student and for the teacher.

    With one vocabulary both are the same object. With two vocabularies, links say which tokens
    can be compared.
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
        """The texts ``start`` to ``stop`` as a batch: a micro-batch."""
        student = self.student.rows(start, stop)
        teacher = student if self.one_vocabulary else self.teacher.rows(start, stop)
        return Batch(student, teacher, self.links.rows(start, stop) if self.links else None)

    @property
    def compared(self) -> "Batch":
        """The batch of what is compared: groups of tokens where there are links, else tokens."""
        return Batch(self.links.groups, self.links.groups) if self.links else self

    @property
    def one_vocabulary(self) -> bool:
        """Whether both models read the very same tokens."""
        return self.student is self.teacher
