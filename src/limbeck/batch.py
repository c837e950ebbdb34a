"""The values that travel from the data to the loss: tokens, and batches that pair them.

Tokens that were moved to a device remember where they came from: how many tokens are real or
predicted, and which, is asked there, because a device would first have to finish all its work.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

UNLABELED = -100  # the class of rows and words whose class is not known


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device; nothing waits where it goes from this process to CUDA."""
    if torch.device(device).type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return pinned(tensor).to(device, non_blocking=True)


def pinned(tensor: Tensor) -> Tensor:
    """The tensor in memory that a CUDA device reads while the process does other work."""
    there = tensor.device.type != "cpu" or tensor.is_pinned()
    return tensor if there else tensor.pin_memory()


def places_of(
    chosen: Bool[Tensor, "*places"], device: torch.device | str
) -> Int[Tensor, " chosen"]:
    """The places that are True, counted row by row, as indices on a device.

    Args:
        chosen: On the processor, so that nothing waits for a device.
        device: Of the tensor that is indexed.
    """
    return moved(chosen.flatten().nonzero().squeeze(1), device)


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
        multi_hot: Of texts of which any number of classes may hold, 1 for each class that does and
            0 for the others; NaN in the rows of texts whose classes are not known. None otherwise.
        queries: Of rows that are pairs of a query and a document, the number of each row's query:
            the same for rows of one query. None where it is not known.
        origin: The tokens on the processor that these were moved from; None where these are not
            moved tokens. Tokens that are changed have none.
    """

    input_ids: Int[Tensor, "batch tokens"]
    mask: Bool[Tensor, "batch tokens"]
    labels: Int[Tensor, "batch tokens"]
    predicted: Bool[Tensor, "batch tokens"]
    positions: Int[Tensor, "batch tokens"] | None = None
    utf8_bytes: Int[Tensor, "batch tokens"] | None = None
    token_type_ids: Int[Tensor, "batch tokens"] | None = None
    scores: Float[Tensor, "batch tokens"] | None = None
    multi_hot: Float[Tensor, "batch classes"] | None = None
    queries: Int[Tensor, " batch"] | None = None
    origin: "Tokens | None" = field(default=None, init=False, repr=False, compare=False)

    @property
    def here(self) -> "Tokens":
        """The same tokens on the processor, where they came from it; else these."""
        return self.origin or self

    @cached_property
    def all_real(self) -> bool:
        """Whether there is no padding."""
        return bool(self.here.mask.all())

    @cached_property
    def real_places(self) -> Int[Tensor, " real"]:
        """The places of real tokens, counted row by row."""
        return places_of(self.here.mask, self.mask.device)

    @cached_property
    def predicted_places(self) -> Int[Tensor, " predicted"]:
        """The places of predicted tokens, counted row by row."""
        return places_of(self.here.predicted, self.mask.device)

    def at_predicted(self, values: Tensor) -> Tensor:
        """The rows of values (batch, tokens, ...) at the predicted tokens.

        Selected by index: which rows a mask selects, a device would have to be asked.
        """
        return values.flatten(0, 1).index_select(0, self.predicted_places)

    @property
    def documents(self) -> Int[Tensor, "batch tokens"] | None:
        """The number of each token's document within its row; None where a row is one text."""
        return None if self.positions is None else (self.positions == 0).cumsum(-1)

    def to(self, device: torch.device | str) -> "Tokens":
        """The same tokens on another device."""
        found = self._each(lambda part: moved(part, device))
        if self.mask.device.type == "cpu" and found.mask.device.type != "cpu":
            object.__setattr__(found, "origin", self)
        return found

    def pinned(self) -> "Tokens":
        """The same tokens in memory that a CUDA device reads while the process does other work."""
        return self._each(pinned)

    def rows(self, start: int, stop: int) -> "Tokens":
        """Rows ``start`` to ``stop`` of every tensor."""
        return self._each(lambda part: part[start:stop])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Tokens":
        parts = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        changed: dict[str, Any] = {
            name: change(part) for name, part in parts.items() if part is not None
        }
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
        origin: The links on the processor that these were moved from; None where these are not
            moved links.
    """

    view: Tokens | None
    student: Int[Tensor, "batch view_tokens"]
    teacher: Int[Tensor, "batch teacher_tokens"]
    groups: Tokens
    student_next: Int[Tensor, "batch view_tokens"] | None = None
    teacher_next: Int[Tensor, "batch teacher_tokens"] | None = None
    origin: "Links | None" = field(default=None, init=False, repr=False, compare=False)

    @property
    def here(self) -> "Links":
        """The same links on the processor, where they came from it; else these."""
        return self.origin or self

    def to(self, device: torch.device | str) -> "Links":
        """The same links on another device."""
        found = self._each(
            lambda part: part.to(device) if isinstance(part, Tokens) else moved(part, device)
        )
        if self.student.device.type == "cpu" and found.student.device.type != "cpu":
            object.__setattr__(found, "origin", self)
        return found

    def pinned(self) -> "Links":
        """The same links in memory that a CUDA device reads while the process does other work."""
        return self._each(lambda part: part.pinned() if isinstance(part, Tokens) else pinned(part))

    def rows(self, start: int, stop: int) -> "Links":
        """The links of the texts ``start`` to ``stop``."""
        return self._each(
            lambda part: part.rows(start, stop) if isinstance(part, Tokens) else part[start:stop]
        )

    def _each(self, change: Callable[[Any], Any]) -> "Links":
        parts: dict[str, Any] = {
            item.name: getattr(self, item.name) for item in fields(self) if item.init
        }
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

    def pinned(self) -> "Batch":
        """The same batch in memory that a CUDA device reads while the process does other work."""
        student = self.student.pinned()
        teacher = student if self.one_vocabulary else self.teacher.pinned()
        return Batch(student, teacher, self.links.pinned() if self.links else None)

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
