"""How rows are augmented, checked before anything is read; no torch is imported."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import DataError
from ..system.choices import DeviceChoice, PrecisionChoice

_MOST_COPIES = 1000
# What is read where words are replaced alone.
_OF_MASKED = ("replace_prob", "top_k", "max_length", "batch_size", "device", "precision")


@dataclass(frozen=True)
class AugmentSettings:
    """How rows are made of other rows.

    Attributes:
        masked: A model with a masked-language-model head, whose candidates replace words; None
            replaces none.
        spans: Whether spans of two rows are joined.
        neighbors: Whether texts that share many of their words are paired.
        edits: Whether a text is paired with edited copies of it.
        copies: Rows that each way makes of a row at most; duplicates are dropped.
        replace_prob: Probability that a word is replaced.
        top_k: Candidates that a replaced word is drawn from.
        max_length: Tokens of a text that the model reads, special tokens included; words after
            them are never replaced. By default 128, or what the model reads if that is less.
        min_similarity: The least cosine of TF-IDF of texts that are paired as neighbors.
        batch_size: Texts that the model reads at once.
        device: Of the model.
        precision: Of the model; ``auto`` is bfloat16 where the device has it in hardware.
        seed: Decides which rows are made.
        predict: Of rows that have a text and words, what they are for: a label makes rows of the
            texts, tags of the words; None decides by which of the two the rows have, a label first.
    """

    masked: str | None = None
    spans: bool = False
    neighbors: bool = False
    edits: bool = False
    copies: int = 4
    replace_prob: float = 0.4
    top_k: int = 15
    max_length: int = 128
    min_similarity: float = 0.3
    batch_size: int = 256
    device: DeviceChoice = "auto"
    precision: PrecisionChoice = "auto"
    seed: int = 0
    predict: Literal["label", "tags"] | None = None

    @property
    def of_rows(self) -> bool:
        """Whether rows are made of rows, in their form; else of their texts alone."""
        return self.masked is not None or self.spans

    def check(self) -> None:
        """Refuse settings that make no row.

        Raises:
            DataError: With every problem.
        """
        if problems := list(self._problems()):
            raise DataError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        if self.masked is None and not (self.spans or self.neighbors or self.edits):
            yield (
                "no way to make rows is chosen; replace words (--masked MODEL, an encoder with a"
                " vocabulary head) or join spans of two rows (--spans); for pairs of texts, pair"
                " texts that share words (--neighbors) or texts with edited copies (--edits)"
            )
        if not 1 <= self.copies <= _MOST_COPIES:
            yield f"copies is {self.copies}; give 1 to {_MOST_COPIES:,}"
        if not 0 < self.replace_prob <= 1:
            yield f"replace_prob is {self.replace_prob:g}; give more than 0 and at most 1"
        if not 0 <= self.min_similarity < 1:
            yield f"min_similarity is {self.min_similarity:g}; give 0 or more and less than 1"
        for name in ("top_k", "batch_size"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; give 1 or more"
        if self.seed < 0:
            yield f"seed is {self.seed}; give 0 or more"
        for way, chosen, read in (
            ("--masked", self.masked is not None, _OF_MASKED),
            ("--neighbors", self.neighbors, ("min_similarity",)),
        ):
            given = [n for n in read if getattr(self, n) != getattr(AugmentSettings, n)]
            if given and not chosen:
                named = " and ".join(f"--{name.replace('_', '-')}" for name in given)
                yield f"{named} would not be read without {way}; leave it out, or add {way}"
