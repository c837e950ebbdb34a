"""How BPE makes each of its tokens: by which of its merges, where several would lead there.

A learned vocabulary has one merge a token; one converted from SentencePiece has every pair whose
two parts are tokens, and which of them is used follows from their order alone. Within a text
nothing else happens: a merge that reached over the token's border would have left no such token,
so its letters are merged as they are on their own.

Source: BPE, Sennrich et al. 2016, arXiv:1508.07909; the order of merges is that of `tokenizers`.
"""

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

Pair = tuple[str, str]


def merge_pairs(model: Mapping[str, Any]) -> list[Pair]:
    """The merges of a tokenizer's model in their order; older files write each as one string.

    >>> merge_pairs({"merges": ["a b", ["ab", "c"]]})
    [('a', 'b'), ('ab', 'c')]
    """
    found = []
    for merge in model.get("merges", ()):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        found.append((left, right))
    return found


class Merging:
    """The merges of a BPE model, as they are used.

    >>> vocabulary = {token: n for n, token in enumerate(["a", "b", "c", "ab", "bc", "abc"])}
    >>> merges = [["a", "b"], ["b", "c"], ["a", "bc"], ["ab", "c"]]
    >>> merging = Merging({"vocab": vocabulary, "merges": merges})
    >>> sorted(merging.made_of("abc"))
    ['a', 'ab', 'abc', 'b', 'c']
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        self._ranks = {pair: rank for rank, pair in enumerate(merge_pairs(model))}
        self._known: Mapping[str, int] = model["vocab"]
        self._prefix: str = model.get("continuing_subword_prefix") or ""
        self._suffix: str = model.get("end_of_word_suffix") or ""
        self._made = cache(self._made_of)

    def joined(self, left: str, right: str) -> str:
        """The token that a pair is merged to."""
        return left + right.removeprefix(self._prefix)

    def made_of(self, token: str) -> frozenset[str]:
        """What its letters become on the way to it, itself included; none if it is never made."""
        return self._made(token)

    def _made_of(self, token: str) -> frozenset[str]:
        parts = self._letters(token)
        seen = set(parts)
        while len(parts) > 1:
            ranked = [self._ranks.get(pair) for pair in pairwise(parts)]
            if not (usable := [rank for rank in ranked if rank is not None]):
                break
            first = ranked.index(min(usable))
            parts[first : first + 2] = [self.joined(parts[first], parts[first + 1])]
            seen.add(parts[first])
        made = parts == [token] and seen <= self._known.keys()
        return frozenset(seen) if made else frozenset()

    def _letters(self, token: str) -> list[str]:
        """What it begins as, where it stands in a word as its marks say."""
        begins = not (self._prefix and token.startswith(self._prefix))
        ends = bool(self._suffix) and token.endswith(self._suffix)
        letters = list(token.removeprefix(self._prefix).removesuffix(self._suffix))
        for place in range(len(letters)):
            if place or not begins:
                letters[place] = self._prefix + letters[place]
        if ends and letters:
            letters[-1] += self._suffix
        return letters
