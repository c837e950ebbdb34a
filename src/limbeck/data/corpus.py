"""Which documents are held out, and the order of the sequences.

Both are pure functions: the text of a document decides whether it is held out, and the sequence at
a place of the endless stream depends on the seed alone. So a run can resume at any place without
restoring a state.
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
from .text import TextSource, content_of_text

MOST_SOURCES = 1000
_BLOCK = MOST_SOURCES  # places within which each source has its share, rounded up or down
_CYCLE = 97  # blocks in which a share is rounded up as often as makes it right
_EPOCHS_KEPT = 2  # of a source: a batch may end one and begin the next


def held_out_below(documents: Iterable[str], *, share: float) -> int:
    """The threshold for held-out documents: those whose hash, below 2^64, is smaller.

    The threshold is ``share * 2^64``. If it would hold out none or all of several different
    documents, it is moved just so far that one document is on the other side.

    Args:
        documents: All documents; reading stops once both sides have a document.
        share: The share of documents to hold out; 0 holds out none.
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
    """Whether a document belongs to the held-out text; equal documents are on the same side."""
    return _number(document) < below


def split_documents(documents: Iterable[str], *, below: int, held_out: bool) -> Iterator[str]:
    """The held-out documents, or all others; ``below`` is the threshold of `held_out_below`."""
    return (text for text in documents if is_held_out(text, below=below) == held_out)


def _number(document: str) -> int:
    digest = hashlib.blake2b(document.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def corpus_fingerprint(sources: Sequence[TextSource]) -> str:
    """A hash of the contents of the sources and of how they are read: kind, column, split, name."""
    facts = []
    for source in sources:
        content, file = content_of_text(source.path), Path(source.path)
        here = [content, *file.suffixes[-2:]] if file.exists() else [content]
        facts.append([*here, source.column, source.split, *([source.name] if source.name else [])])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class SeededOrder:
    """An endless stream of sequence numbers.

    Sources are drawn in proportion to their weights, evenly within every thousand places, but at
    least once there. Each source is read in a random order, with a new permutation for every epoch.

    Attributes:
        sizes: Number of sequences of every source; the sources are concatenated.
        weights: Relative shares of the sources.
        seed: Seed of all permutations.

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
        if len(self.sizes) > MOST_SOURCES:
            raise DataError(
                f"{len(self.sizes)} sources are more than {MOST_SOURCES}; join some files"
            )

    def indices(self, position: int, count: int) -> Int64[ndarray, " count"]:
        """The sequence numbers at ``count`` places, starting at ``position``."""
        quotas = _quotas(self.weights)
        places = np.arange(position, position + count)
        found = np.empty(count, dtype=np.int64)
        for block in np.unique(places // _BLOCK):
            here = places // _BLOCK == block
            inside = places[here] % _BLOCK
            cycles, number = divmod(int(block), _CYCLE)
            before = cycles * quotas.sum(axis=0) + quotas[:number].sum(axis=0)
            pattern, ranks = _pattern(tuple(quotas[number].tolist()), self.seed, int(block))
            sources, ranks = pattern[inside], ranks[inside]
            for source in np.unique(sources):
                draws = before[source] + ranks[sources == source]
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
def _quotas(weights: tuple[float, ...]) -> Int64[ndarray, "blocks sources"]:
    """The places of every source in each block of a cycle, at least 1.

    Each source has a part of the block as long as its share, and the whole numbers in it, which
    every block moves by another fraction. So no source is rounded up in all of the blocks.
    """
    shares = np.array(weights) / max(weights)  # scaled first, so that the sum stays finite
    shares *= _BLOCK / shares.sum()
    while shares.min() < 1:
        few = shares <= 1
        shares[few] = 1
        shares[~few] *= (_BLOCK - few.sum()) / (shares[~few].sum() or 1)
    ends = np.cumsum(shares)
    ends[-1] = _BLOCK
    moved = (np.arange(_CYCLE) + 0.5) / _CYCLE
    found: Int64[ndarray, "blocks sources"] = np.diff(
        np.ceil(ends - moved[:, None]).astype(np.int64), prepend=0
    )
    return found


@lru_cache(maxsize=4)
def _pattern(
    quota: tuple[int, ...], seed: int, block: int
) -> tuple[Int64[ndarray, " places"], Int64[ndarray, " places"]]:
    """The source of every place of a block, and how often the block has had it before."""
    sources = np.repeat(np.arange(len(quota)), quota)
    pattern = np.random.default_rng((seed, 0, block)).permutation(sources)
    ranks = np.empty(_BLOCK, dtype=np.int64)
    ranks[np.argsort(pattern, kind="stable")] = np.concatenate([np.arange(n) for n in quota])
    return pattern, ranks


def _permutation(size: int, seed: int, source: int, epoch: int) -> Int64[ndarray, " size"]:
    kept = _permutations(size, seed, source)
    if epoch not in kept:
        while len(kept) >= _EPOCHS_KEPT:
            del kept[next(iter(kept))]
        kept[epoch] = np.random.default_rng((seed, 1, source, epoch)).permutation(size)
    return kept[epoch]


# As many as two orders have sources, so that no batch computes what the one before it had.
@lru_cache(maxsize=2 * MOST_SOURCES)
def _permutations(size: int, seed: int, source: int) -> dict[int, Int64[ndarray, " size"]]:
    """The permutations of a source that were computed last, by their epochs."""
    return {}
