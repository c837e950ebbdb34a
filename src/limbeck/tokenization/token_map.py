"""Each token of the teacher in the student's vocabulary: as the same token, or as several.

Source: match and reduce, Kolesnikova et al. 2022, arXiv:2205.02340.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from jaxtyping import Bool, Int64
from transformers import PreTrainedTokenizerFast

from ..token_ids import TokenIds
from .normalizers import normalized
from .spelling import Spelling, spelled_in_bytes, spellings, token_of, unspelled

Ids = Int64[np.ndarray, "..."]
_InBytes = Callable[[str, bool], list[int]]
ROLES = tuple(f"{role}_token_id" for role in ("pad", "unk", "cls", "sep", "mask", "bos", "eos"))


@dataclass(frozen=True)
class TokenMap:
    """The teacher's tokens in the student's vocabulary.

    An id that belongs to no token has no same token and is not spellable.

    Attributes:
        same: The student token with the same spelling or the same bytes, or with the same role for
            special tokens; -1 where there is none.
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
    theirs, known = spellings(teacher), spellings(student)
    others, greedy = unspelled(student, known), _Greedy(known, student)
    ids = TokenIds.of(teacher).end
    same = np.full(ids, -1, dtype=np.int64)
    parts: list[list[int]] = [[] for _ in range(ids)]
    for spelling, number in theirs.items():
        letters = normalized(student, spelling.letters)
        if (own := token_of(spelling, known)) is not None:
            same[number] = own
        if own is not None and letters == spelling.letters.replace("▁", " ").strip():
            parts[number] = [own]
        else:  # also where the student has a token that its normalizer never lets it read
            parts[number] = greedy.spell(letters, spelling.begins, spelling.ends is not False)
    for key, number in unspelled(teacher, theirs).items():
        if isinstance(key, str):  # a special token
            continue
        if key in others:
            same[number], parts[number] = others[key], [others[key]]
        elif isinstance(key, bytes):
            parts[number] = spelled_in_bytes(student, key)
    for role in ROLES:
        number, own = getattr(teacher, role), getattr(student, role)
        if number is not None and own is not None:
            same[number], parts[number] = own, [own]
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


class _Greedy:
    """Spells letters in a vocabulary's tokens, greedily with the longest first.

    A teacher may have 250,000 tokens in many scripts, of which the student knows one or two.
    Letters that are in no token are found before anything is tried, and no part is tried that is
    longer than every token with the same first letter.
    """

    def __init__(self, known: dict[Spelling, int], tokenizer: PreTrainedTokenizerFast) -> None:
        self._begin: dict[str, int] = {}
        self._continue: dict[str, int] = {}
        self._before_others: dict[str, int] = {}  # where a notation marks the ends of words
        self._longest: dict[str, int] = {}  # by first letter
        self._letters: set[str] = set()
        has_bytes = any(spelled_in_bytes(tokenizer, bytes([n])) for n in range(0x80, 0x100))
        self._bytes = cache(partial(_letter_in_bytes, tokenizer)) if has_bytes else None
        for (letters, begins, ends), number in known.items():
            if not letters:  # a mark of a word's beginning alone spells nothing
                continue
            tokens = self._begin if begins else self._continue
            if ends is False:
                self._before_others[letters] = number
                tokens.setdefault(letters, number)
            else:
                tokens[letters] = number
            self._longest[letters[0]] = max(self._longest.get(letters[0], 0), len(letters))
            self._letters.update(letters)

    def spell(self, letters: str, begins: bool, ends: bool) -> list[int]:
        """The tokens that spell some letters; empty where a letter has neither token nor bytes.

        Where they cannot be spelled so, they are spelled in bytes too; or, where there are none,
        whether a token begins a word is ignored: a comma may begin a word for one tokenizer and
        continue it for the other.
        """
        is_known = self._letters.issuperset(letters)
        if is_known and (found := self._tokens(letters, begins, ends)):
            return found
        if self._bytes is not None:
            return self._tokens(letters, begins, ends, in_bytes=self._bytes)
        return self._tokens(letters, begins, ends, loose=True) if is_known else []

    def _tokens(
        self,
        letters: str,
        begins: bool,
        ends: bool,
        *,
        loose: bool = False,
        in_bytes: _InBytes | None = None,
    ) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(letters):
            here, other = self._continue, self._begin
            if begins and start == 0:
                here, other = other, here
            longest = self._longest.get(letters[start], 0)
            for stop in range(min(len(letters), start + longest), start, -1):
                token, part = None, letters[start:stop]
                if stop < len(letters) or not ends:
                    token = self._before_others.get(part)
                if token is None:
                    token = here.get(part)
                if token is None and loose:
                    token = other.get(part)
                if token is not None:
                    found.append(token)
                    start = stop
                    break
            else:
                some = in_bytes(letters[start], begins and start == 0) if in_bytes else []
                if not some:
                    return []
                found += some
                start += 1
        return found


def _letter_in_bytes(tokenizer: PreTrainedTokenizerFast, letter: str, begins: bool) -> list[int]:
    return spelled_in_bytes(tokenizer, letter.encode("utf-8", "surrogatepass"), begins=begins)
