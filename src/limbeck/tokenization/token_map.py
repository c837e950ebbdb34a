"""Each token of the teacher in the student's vocabulary: as the same token, or as several.

Source: match and reduce, Kolesnikova et al. 2022, arXiv:2205.02340.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64
from transformers import PreTrainedTokenizerFast

from ..token_ids import TokenIds
from .normalizers import normalized
from .spelling import Spelling, spellings

Ids = Int64[np.ndarray, "..."]
ROLES = tuple(f"{role}_token_id" for role in ("pad", "unk", "cls", "sep", "mask", "bos", "eos"))


@dataclass(frozen=True)
class TokenMap:
    """The teacher's tokens in the student's vocabulary.

    An id that belongs to no token has no same token and is not spellable.

    Attributes:
        same: The student token with the same spelling, or with the same role for special tokens;
            -1 where there is none.
        parts: The student tokens that spell each teacher token, concatenated; the unknown token
            for one that is not spellable.
        offsets: Where the parts of each teacher token begin, and where the last ones end.
        spellable: Whether the student's tokens can spell the teacher token.
    """

    same: Int64[np.ndarray, " teacher_vocabulary"]
    parts: Int64[np.ndarray, " parts"]
    offsets: Int64[np.ndarray, " teacher_vocabulary_and_one"]
    spellable: Bool[np.ndarray, " teacher_vocabulary"]

    def parts_of(self, numbers: Ids) -> tuple[Ids, Ids]:
        """The parts of some teacher tokens, concatenated, and the index of the token of each part.

        >>> tokens = TokenMap(*map(np.array, ([-1, 4], [7, 8, 4], [0, 2, 3], [True, True])))
        >>> [found.tolist() for found in tokens.parts_of(np.array([1, 0, 1]))]
        [[4, 7, 8, 4], [0, 1, 1, 2]]
        """
        lengths = self.lengths[numbers]
        owner = np.repeat(np.arange(len(numbers)), lengths)
        within = np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner]
        return self.parts[self.offsets[numbers][owner] + within], owner

    @property
    def lengths(self) -> Int64[np.ndarray, " teacher_vocabulary"]:
        """The number of parts of each teacher token."""
        found: Int64[np.ndarray, " teacher_vocabulary"] = np.diff(self.offsets)
        return found


def map_tokens(teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast) -> TokenMap:
    """Every token of the teacher in tokens of the student, greedily with the longest first."""
    known = spellings(student)
    longest = max((len(spelling.letters) for spelling in known), default=0)
    ids = TokenIds.of(teacher).end
    same = np.full(ids, -1, dtype=np.int64)
    parts: list[list[int]] = [[] for _ in range(ids)]
    for spelling, number in spellings(teacher).items():
        same[number] = known.get(spelling, -1)
        letters = normalized(student, spelling.letters)
        exact = _greedy(letters, spelling.begins, known, longest, loose=False)
        parts[number] = exact or _greedy(letters, spelling.begins, known, longest, loose=True)
    for role in ROLES:
        theirs, mine = getattr(teacher, role), getattr(student, role)
        if theirs is not None and mine is not None:
            same[theirs], parts[theirs] = mine, [mine]
    spellable = np.array([bool(some) for some in parts])
    unknown = [student.unk_token_id or 0]
    parts = [some or unknown for some in parts]
    lengths = [len(some) for some in parts]
    return TokenMap(
        same,
        np.array([part for some in parts for part in some], dtype=np.int64),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        spellable,
    )


def _greedy(
    letters: str, begins: bool, known: dict[Spelling, int], longest: int, *, loose: bool
) -> list[int]:
    """The student tokens that spell some letters; empty where a letter is in no token.

    ``loose`` ignores whether a token begins a word: a comma may begin a word for one tokenizer and
    continue it for the other.
    """
    found: list[int] = []
    start = 0
    while start < len(letters):
        for stop in range(min(len(letters), start + longest), start, -1):
            here = begins and start == 0
            kinds = (here, not here) if loose else (here,)
            tried = [Spelling(letters[start:stop], kind) for kind in kinds]
            if (token := next((known[s] for s in tried if s in known), None)) is not None:
                found.append(token)
                start = stop
                break
        else:
            return []
    return found
