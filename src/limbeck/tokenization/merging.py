"""How BPE makes each of its tokens: which merges it uses where several could make the token.

A learned vocabulary has one merge for each token. A vocabulary converted from SentencePiece has a
merge for every pair whose two parts are tokens, and only their order decides which is used. It is
enough to merge the letters of a token alone: a merge across the border of the token would not
leave that token in the text.

Source: BPE, Sennrich et al. 2016, arXiv:1508.07909; the order of merges is that of `tokenizers`.
"""

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

Pair = tuple[str, str]


def merge_pairs(model: Mapping[str, Any]) -> list[Pair]:
    """The merges of a tokenizer's model in their order; older files have each as one string.

    >>> merge_pairs({"merges": ["a b", ["ab", "c"]]})
    [('a', 'b'), ('ab', 'c')]
    """
    found = []
    for merge in model.get("merges", ()):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        found.append((left, right))
    return found


class Merging:
    """The merges of a BPE model, and the tokens that they really make.

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
        """The token that a pair is merged into."""
        return left + right.removeprefix(self._prefix)

    def made_of(self, token: str) -> frozenset[str]:
        """All tokens on the way from letters to a token, itself included; empty if never made."""
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
        """The letters of a token before any merge, with the marks of their places in a word."""
        begins = not (self._prefix and token.startswith(self._prefix))
        ends = bool(self._suffix) and token.endswith(self._suffix)
        letters = list(token.removeprefix(self._prefix).removesuffix(self._suffix))
        for place in range(len(letters)):
            if place or not begins:
                letters[place] = self._prefix + letters[place]
        if ends and letters:
            letters[-1] += self._suffix
        return letters
