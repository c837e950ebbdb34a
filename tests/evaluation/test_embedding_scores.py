"""Scores of vectors, against plain loops, scikit-learn and sentence-transformers."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    TranslationEvaluator,
)
from sentence_transformers.util import cos_sim
from sklearn.metrics import ndcg_score
from torch import nn

from limbeck.evaluation.embeddings.scores import (
    bitext_scores,
    nearest_documents,
    retrieval_scores,
    similarity_scores,
)


def vectors(rows, width=6, *, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def cosine(left, right):
    dot = sum(float(a) * float(b) for a, b in zip(left, right, strict=True))
    return dot / math.dist(left, [0] * len(left)) / math.dist(right, [0] * len(right))


def relevant(queries, documents, *, seed=0):
    chance = np.random.default_rng(seed)
    return [
        frozenset(chance.choice(documents, chance.integers(1, 15), replace=False).tolist())
        for _ in range(queries)
    ]


class Known(nn.Module):
    """Stands for a model of the library whose vectors are given."""

    similarity_fn_name = "cosine"
    similarity = staticmethod(cos_sim)

    class model_card_data:  # noqa: N801
        @staticmethod
        def set_evaluation_metrics(*given):
            pass

    def __init__(self, of_text):
        super().__init__()
        self.of_text = of_text

    def encode(self, texts, *, convert_to_numpy=True, convert_to_tensor=False, **options):
        found = [torch.tensor(self.of_text[text]) for text in texts]
        if convert_to_tensor:
            return torch.stack(found)
        return np.stack(found) if convert_to_numpy else found

    encode_query = encode_document = encode


def named(rows, name):
    return {f"{name}{number}": row for number, row in enumerate(rows)}


def test_similarity():
    left, right, labels = vectors(40), vectors(40, seed=1), np.arange(40.0) % 7
    found = similarity_scores(left, right, labels)
    cosines = [cosine(a, b) for a, b in zip(left, right, strict=True)]
    assert list(found) == ["spearman", "pearson"]
    assert found["spearman"].score == pytest.approx(spearmanr(cosines, labels).statistic)
    evaluator = EmbeddingSimilarityEvaluator(
        list(named(left, "l")), list(named(right, "r")), labels.tolist(), write_csv=False
    )
    theirs = evaluator(Known(named(left, "l") | named(right, "r")))
    assert found["spearman"].score == pytest.approx(theirs["spearman_cosine"], abs=1e-6)
    assert found["pearson"].score == pytest.approx(theirs["pearson_cosine"], abs=1e-6)


def test_the_interval_of_a_correlation_is_that_of_loops():
    left, right, labels = vectors(30), vectors(30, seed=1), np.arange(30.0) % 4
    found = similarity_scores(left, right, labels)["spearman"]
    cosines = np.array([cosine(a, b) for a, b in zip(left, right, strict=True)])
    drawn = np.random.default_rng(0).integers(0, 30, (1000, 30))
    scores = [spearmanr(cosines[rows], labels[rows]).statistic for rows in drawn]
    assert (found.low, found.high) == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=1e-6)


def test_vectors_of_no_direction_have_no_correlation():
    found = similarity_scores(np.zeros((5, 3), np.float32), vectors(5, 3), np.arange(5.0))
    assert [(score.score, score.low, score.high) for score in found.values()] == [(0, 0, 0)] * 2


def by_loops(queries, corpus, wanted):
    """nDCG@10, recall@1 and recall@10, a query at a time."""
    totals = [0.0, 0.0, 0.0]
    for query, documents in zip(queries, wanted, strict=True):
        order = sorted(range(len(corpus)), key=lambda n: (-cosine(query, corpus[n]), n))[:10]
        gain = sum(1 / math.log2(rank + 2) for rank, n in enumerate(order) if n in documents)
        best = sum(1 / math.log2(rank + 2) for rank in range(min(10, len(documents))))
        totals[0] += gain / best
        totals[1] += len(documents & set(order[:1])) / len(documents)
        totals[2] += len(documents & set(order)) / len(documents)
    return [total / len(queries) for total in totals]


@pytest.mark.parametrize("documents", [3, 10, 60])
def test_retrieval_is_that_of_loops(documents):
    queries, corpus = vectors(25), vectors(documents, seed=1)
    wanted = [frozenset(w % documents for w in some) for some in relevant(25, 60)]
    found = retrieval_scores(queries, corpus, wanted)
    assert list(found) == ["ndcg_at_10", "recall_at_1", "recall_at_10"]
    assert [score.score for score in found.values()] == pytest.approx(
        by_loops(queries, corpus, wanted)
    )
    assert all(score.low <= score.score <= score.high for score in found.values())


def test_retrieval_is_that_of_scikit_learn_and_the_library():
    queries, corpus = vectors(25), vectors(60, seed=1)
    wanted = relevant(25, 60)
    found = retrieval_scores(queries, corpus, wanted)
    truth = np.array([[n in documents for n in range(60)] for documents in wanted], float)
    cosines = np.array([[cosine(query, document) for document in corpus] for query in queries])
    assert found["ndcg_at_10"].score == pytest.approx(ndcg_score(truth, cosines, k=10))
    evaluator = InformationRetrievalEvaluator(
        queries={name: name for name in named(queries, "q")},
        corpus={name: name for name in named(corpus, "d")},
        relevant_docs={f"q{n}": {f"d{d}" for d in some} for n, some in enumerate(wanted)},
        precision_recall_at_k=[1, 10],
        write_csv=False,
    )
    theirs = evaluator(Known(named(queries, "q") | named(corpus, "d")))
    assert found["ndcg_at_10"].score == pytest.approx(theirs["cosine_ndcg@10"])
    assert found["recall_at_1"].score == pytest.approx(theirs["cosine_recall@1"])
    assert found["recall_at_10"].score == pytest.approx(theirs["cosine_recall@10"])


def test_of_documents_that_are_as_near_the_first_is_found_first():
    corpus = np.array([[1, 0], [0, 1], [2, 0], [0, 3], [1, 0], [-1, 0]], np.float32)
    query = np.array([[5, 0]], np.float32)
    assert nearest_documents(query, corpus, 4).tolist() == [[0, 2, 4, 1]]
    assert nearest_documents(query, corpus, 9).tolist() == [[0, 2, 4, 1, 3, 5]]
    assert nearest_documents(query, corpus, 1).tolist() == [[0]]


def test_many_queries_are_as_each_of_them():
    queries, corpus = vectors(2300, 3), vectors(20, 3, seed=1)
    found = nearest_documents(queries, corpus, 5)
    some = [0, 999, 1000, 2299]
    assert found[some].tolist() == nearest_documents(queries[some], corpus, 5).tolist()


def test_bitext():
    left = vectors(50)
    right = left + 0.8 * vectors(50, seed=1)
    texts = ([f"l{n}" for n in range(50)], [f"r{n}" for n in range(50)])
    found = bitext_scores(left, right, texts)
    pairs = [(left, right), (right, left)]
    ways = [
        [max(range(50), key=lambda n: cosine(row, among[n])) == own for own, row in enumerate(of)]
        for of, among in pairs
    ]
    shares = [sum(way) / 50 for way in ways]
    assert 0 < shares[0] < 1
    assert found["to_pair"].score == pytest.approx(shares[0])
    assert found["to_text"].score == pytest.approx(shares[1])
    assert found["accuracy"].score == pytest.approx(sum(shares) / 2)
    theirs = TranslationEvaluator(*texts, write_csv=False)(
        Known(named(left, "l") | named(right, "r"))
    )
    assert found["to_pair"].score == pytest.approx(theirs["src2trg_accuracy"])
    assert found["to_text"].score == pytest.approx(theirs["trg2src_accuracy"])


def test_a_translation_that_stands_twice_is_right_both_times():
    left = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    spelled = (["a", "b", "c"], ["x", "x", "y"])
    found = bitext_scores(left, left, spelled)
    assert found["to_pair"].score == 1
    assert found["to_text"].score == pytest.approx(2 / 3)  # of a and b only one can be nearest
