"""What a run with two vocabularies shows of its tokens; fields are keys of report.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NearestTokens:
    """The teacher's tokens nearest to the student's, by the cosine of their embeddings.

    Attributes:
        shared: Tokens that both vocabularies have.
        itself: Share of these whose nearest teacher token is the same token.
        nearest: Some student tokens with their nearest teacher tokens and cosines.
    """

    shared: int
    itself: float
    nearest: Sequence[tuple[str, Sequence[tuple[str, float]]]]

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "NearestTokens":
        """The tokens as they stand in report.json."""
        nearest = [
            (token, [(name, cosine) for name, cosine in of]) for token, of in plain["nearest"]
        ]
        return NearestTokens(**{**plain, "nearest": nearest})


@dataclass(frozen=True)
class SentenceInBoth:
    """One held-out sentence as teacher and student tokenize it.

    Attributes:
        text: The sentence.
        groups: The teacher's and the student's tokens over the same characters.
        hidden: The word that was hidden from both.
        expected: For each model and each of its tokens of the hidden word, the most likely tokens
            with their probabilities; none where the sentence is too long for the model.
    """

    text: str
    groups: Sequence[tuple[Sequence[str], Sequence[str]]]
    hidden: str
    expected: Mapping[str, Sequence[Sequence[tuple[str, float]]]]

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "SentenceInBoth":
        """The sentence as it stands in report.json."""
        expected = {
            role: [[(token, share) for token, share in best] for best in gaps]
            for role, gaps in plain["expected"].items()
        }
        groups = [(theirs, mine) for theirs, mine in plain["groups"]]
        return SentenceInBoth(**{**plain, "groups": groups, "expected": expected})


@dataclass(frozen=True)
class TokenizedTwice:
    """Counts of the training text of a stage in the tokens of teacher and student.

    Attributes:
        words: In all.
        to_teacher: Words that only the teacher's tokenizer knows.
        to_student: Words that only the student's tokenizer knows.
        too_long: Words that are too long for a sequence, and were left out.
        one_to_one: Tokens that correspond to one of the other model.
        grouped: Tokens that correspond to several of the other model, or share one.
        alone: Tokens that correspond to none.
    """

    words: int
    to_teacher: int
    to_student: int
    too_long: int
    one_to_one: int
    grouped: int
    alone: int
