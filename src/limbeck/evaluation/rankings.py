"""How well documents are ranked for their queries.

Source: nDCG, Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques"; the
reciprocal rank, Voorhees 1999, "The TREC-8 Question Answering Track Report".
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

RANKED = 10  # documents of a query that count
OF_QUERIES = ("ndcg_at_10", "mrr")  # the metrics of rankings, averaged over queries


def ndcg(found: Float[ndarray, " found"], every: Float[ndarray, " documents"]) -> float:
    """Normalized discounted cumulated gain of the first `RANKED` documents of a query.

    Args:
        found: The gains of the documents in the order in which they were found.
        every: The gains of all documents of the query, in any order; one is above 0.

    >>> round(ndcg(np.array([0.0, 1.0]), np.array([0.0, 1.0])), 3)
    0.631
    """
    discounts = 1 / np.log2(np.arange(2, RANKED + 2))
    first, best = found[:RANKED], np.sort(every)[::-1][:RANKED]
    return float(first @ discounts[: len(first)] / (best @ discounts[: len(best)]))


def ranked_queries(
    relevances: Sequence[float], queries: Sequence[str]
) -> list[Int[ndarray, " rows"]]:
    """The rows of each query whose rows can be ranked: not all are alike, and one is above 0.

    Args:
        relevances: Of the rows, each a document of a query.
        queries: Of the rows.
    """
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for number, query in enumerate(queries):
        rows[query].append(number)
    values = np.asarray(relevances, dtype=float)
    groups = [np.array(numbers) for numbers in rows.values()]
    return [group for group in groups if max(0.0, values[group].min()) < values[group].max()]


def ranking_scores(
    scores: Sequence[float], relevances: Sequence[float], queries: Sequence[str]
) -> dict[str, list[float]]:
    """nDCG@10 and the reciprocal rank of the first relevant document, of each query.

    Queries that `ranked_queries` leaves out do not count. Relevances are gains as they are; those
    of 0 and less are of documents that are not relevant.

    Args:
        scores: Of the rows. Of two with the same score the less relevant one is ranked first, so
            that a model which says the same of all rows gains nothing by their order.
        relevances: Of the rows.
        queries: Of the rows.

    Returns:
        Nothing where no query can be ranked.
    """
    given, gains = np.asarray(scores, dtype=float), np.maximum(0.0, relevances)
    found: dict[str, list[float]] = {"ndcg_at_10": [], "mrr": []}
    for rows in ranked_queries(relevances, queries):
        in_order = gains[rows[np.lexsort((gains[rows], -given[rows]))]]
        found["ndcg_at_10"].append(ndcg(in_order, in_order))
        found["mrr"].append(1 / (1 + float(np.argmax(in_order > 0))))
    return found if found["mrr"] else {}
