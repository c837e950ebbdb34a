"""Which documents are held out, and which sequence comes when.

Both are pure functions: a document's own text decides whether it is held out,
and a place in the endless stream of sequences depends on the seed alone. So a
run resumes at any place without a state to restore.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from ..errors import DataError
from ..system.fingerprints import content_of
from .text import TextSource

_BLOCK = 1000  # places over which the sources' shares hold exactly


def held_out_below(documents: Iterable[str], *, share: float) -> int:
    """The number of a document (up to 2^64) below which it is held out.

    That is the share of all numbers; but where this would hold out none of some different
    documents, or all of them, just so much more or less that one is on the other side.

    Args:
        documents: All of them; of many, only the first are read.
        share: Held out of many; 0 holds out none of any.
    """
    below = math.ceil(share * 2**64)
    least = most = None
    for text in documents if share else ():
        number = _number(text)
        least = number if least is None else min(least, number)
        most = number if most is None else max(most, number)
        if least < below <= most:
            return below
    if least is None or most is None or least == most:
        return below
    return most if most < below else least + 1


def is_held_out(document: str, *, below: int) -> bool:
    """Whether a document belongs to the held-out text; equal documents fall on one side."""
    return _number(document) < below


def split_documents(documents: Iterable[str], *, below: int, held_out: bool) -> Iterator[str]:
    """The held-out documents, or all the others; ``below`` as `held_out_below` gives it."""
    return (text for text in documents if is_held_out(text, below=below) == held_out)


def _number(document: str) -> int:
    digest = hashlib.blake2b(document.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def corpus_fingerprint(sources: Sequence[TextSource]) -> str:
    """A name for what the sources hold now, and how it is read: content, kind and column."""
    facts = []
    for source in sources:
        file = Path(source.path)
        here = [content_of(file), *file.suffixes[-2:]] if file.exists() else [source.path]
        facts.append([*here, source.column, source.split])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class SeededOrder:
    """An endless stream of sequence numbers.

    Sources are drawn in proportion to their weights, evenly within every
    thousand places; each goes through a permutation of its own, a fresh one
    each time it has been seen whole.

    Attributes:
        sizes: Sequences of every source, which lie one after another.
        weights: Relative shares.
        seed: Decides every order.

    Raises:
        DataError: A source is empty, its weight is not above 0, or there are over a thousand.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    seed: int

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.weights) or not self.sizes:
            raise DataError(f"{len(self.sizes)} sources have {len(self.weights)} weights")
        if min(self.sizes) < 1:
            raise DataError(f"a source is empty (sequences: {self.sizes}); leave it out")
        if not all(0 < weight < np.inf for weight in self.weights):
            raise DataError(f"weights are {self.weights}; each must be a finite number above 0")
        if len(self.sizes) > _BLOCK:
            raise DataError(f"{len(self.sizes)} sources are more than {_BLOCK}; join some files")

    def indices(self, position: int, count: int) -> Int64[ndarray, " count"]:
        """The sequences at ``count`` places from ``position`` on."""
        quota = _quota(self.weights)
        places = np.arange(position, position + count)
        found = np.empty(count, dtype=np.int64)
        for block in np.unique(places // _BLOCK):
            here = places // _BLOCK == block
            inside = places[here] % _BLOCK
            pattern = _pattern(quota, self.seed, int(block))
            sources = pattern[inside]
            for source in np.unique(sources):
                # How many times the source was drawn before each of these places.
                rank = np.cumsum(pattern == source) - 1
                draws = block * quota[source] + rank[inside[sources == source]]
                found[np.flatnonzero(here)[sources == source]] = self._draw(int(source), draws)
        return found

    def _draw(self, source: int, draws: Int64[ndarray, " n"]) -> Int64[ndarray, " n"]:
        size, first = self.sizes[source], sum(self.sizes[:source])
        found = np.empty(len(draws), dtype=np.int64)
        for epoch in np.unique(draws // size):
            here = draws // size == epoch
            order = _permutation(size, self.seed, source, int(epoch))
            found[here] = first + order[draws[here] % size]
        return found


@lru_cache(maxsize=4)
def _quota(weights: tuple[float, ...]) -> tuple[int, ...]:
    """Places of every source in a block: its share within one place, but at least 1."""
    shares = np.array(weights) / max(weights)  # first, so that the sum stays finite
    shares *= _BLOCK / shares.sum()
    quota = np.maximum(1, np.floor(shares)).astype(int)
    while (missing := _BLOCK - quota.sum()) > 0:
        quota[np.argmax(shares - quota)] += 1
    for _ in range(-missing):
        quota[np.argmax(np.where(quota > 1, quota - shares, -np.inf))] -= 1
    return tuple(int(places) for places in quota)


@lru_cache(maxsize=4)
def _pattern(quota: tuple[int, ...], seed: int, block: int) -> Int64[ndarray, " places"]:
    sources = np.repeat(np.arange(len(quota)), quota)
    return np.random.default_rng((seed, 0, block)).permutation(sources)


@lru_cache(maxsize=16)
def _permutation(size: int, seed: int, source: int, epoch: int) -> Int64[ndarray, " size"]:
    return np.random.default_rng((seed, 1, source, epoch)).permutation(size)
