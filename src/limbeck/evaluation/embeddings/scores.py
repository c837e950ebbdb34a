"""Scores of vectors: similarity, retrieval, translations; with intervals over redrawn rows.

Vectors are compared by their cosine, whatever their length.

Source: STS, Cer et al. 2017, arXiv:1708.00055; translations, Artetxe and Schwenk 2019,
arXiv:1812.10464.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import rankdata

from ...reports.task_results import Interval
from ..bootstrap import draw_rows
from ..metrics import regression_metrics
from ..rankings import RANKED, ndcg

Vectors = Float[ndarray, "rows width"]
Documents = Float[ndarray, "documents width"]
_DRAWS = 1000
_AT_ONCE = 100  # redraws, or a tenth of the queries, that are computed with at once


def similarity_scores(
    left: Vectors, right: Vectors, labels: Float[ndarray, " rows"]
) -> dict[str, Interval]:
    """Spearman and Pearson correlation between the cosines of pairs and their labels."""
    found = (_scaled(left) * _scaled(right)).sum(1, dtype=float)
    scores = regression_metrics(found.tolist(), labels.tolist())
    drawn = draw_rows(len(found), draws=_DRAWS, seed=0)
    parts = [drawn[start : start + _AT_ONCE] for start in range(0, _DRAWS, _AT_ONCE)]

    def interval(score: float, *, ranked: bool) -> Interval:
        correlations = [_correlations(found[rows], labels[rows], ranked=ranked) for rows in parts]
        return _interval(score, np.concatenate(correlations))

    return {
        name: interval(scores[name], ranked=name == "spearman") for name in sorted(scores)[::-1]
    }


def retrieval_scores(
    queries: Vectors, corpus: Documents, relevant: Sequence[Collection[int]]
) -> dict[str, Interval]:
    """nDCG@10, recall@1 and recall@10, averaged over queries.

    Args:
        queries: Their vectors.
        corpus: Those of the documents; of two that are as near, the first is found first.
        relevant: For every query the numbers of its documents, all equally relevant: one at least.
    """
    found = nearest_documents(queries, corpus, RANKED)
    rows: dict[str, list[float]] = {"ndcg_at_10": [], "recall_at_1": [], "recall_at_10": []}
    for documents, wanted in zip(found, relevant, strict=True):
        hits = np.isin(documents, list(wanted)).astype(float)
        rows["ndcg_at_10"].append(ndcg(hits, np.ones(len(wanted))))
        rows["recall_at_1"].append(float(hits[:1].sum() / len(wanted)))
        rows["recall_at_10"].append(float(hits.sum() / len(wanted)))
    return means_of(rows)


def bitext_scores(
    left: Vectors, right: Vectors, texts: tuple[Sequence[str], Sequence[str]]
) -> dict[str, Interval]:
    """How often the nearest sentence of the other language is the translation; both ways.

    Args:
        left: Vectors of the sentences.
        right: Those of their translations, in the same order.
        texts: Both; a sentence that is spelled as the translation is right too.
    """
    ways = {"to_pair": (left, right, texts[1]), "to_text": (right, left, texts[0])}
    rows = {}
    for way, (of, among, spelled) in ways.items():
        first = nearest_documents(of, among, 1)[:, 0].tolist()
        rows[way] = [float(spelled[found] == spelled[own]) for own, found in enumerate(first)]
    both = np.mean([rows[way] for way in ways], axis=0).tolist()
    return means_of({"accuracy": both, **rows})


def nearest_documents(
    queries: Vectors, corpus: Documents, count: int
) -> Int[ndarray, "rows found"]:
    """The numbers of the nearest documents of each query, the nearest first.

    Args:
        queries: Their vectors.
        corpus: Those of the documents; of two that are as near, the first is found first.
        count: Documents of each query; all where there are fewer.
    """
    documents, count = _scaled(corpus), min(count, len(corpus))
    found = np.empty((len(queries), count), np.int64)
    for start in range(0, len(queries), 10 * _AT_ONCE):
        cosines = _scaled(queries[start : start + 10 * _AT_ONCE]) @ documents.T
        for number, row in enumerate(cosines, start):
            near = np.flatnonzero(row >= np.partition(row, -count)[-count])
            found[number] = near[np.argsort(-row[near], kind="stable")][:count]
    return found


def _scaled(vectors: Vectors) -> Vectors:
    """Vectors of length 1; those of length 0 stay as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return found


def means_of(rows: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """The mean of each score, with its interval over the same redrawn rows."""
    drawn = draw_rows(len(next(iter(rows.values()))), draws=_DRAWS, seed=0)
    values = {name: np.array(row) for name, row in rows.items()}
    return {name: _interval(row.mean(), row[drawn].mean(1)) for name, row in values.items()}


def _interval(score: float, redrawn: Float[ndarray, " draws"]) -> Interval:
    low, high = np.quantile(redrawn, [0.025, 0.975])
    return Interval(float(score), float(low), float(high))


def _correlations(
    left: Float[ndarray, "draws rows"], right: Float[ndarray, "draws rows"], *, ranked: bool
) -> Float[ndarray, " draws"]:
    """The correlation of every redraw; 0 where a side is constant and has none."""
    if ranked:
        left, right = rankdata(left, axis=1), rankdata(right, axis=1)
    left, right = (side - side.mean(1, keepdims=True) for side in (left, right))
    size = np.sqrt((left**2).sum(1) * (right**2).sum(1))
    found: Float[ndarray, " draws"] = (left * right).sum(1) / np.where(size > 0, size, np.inf)
    return found
