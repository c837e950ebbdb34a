"""Documents ranked for queries, against plain loops; and which tasks are scored so."""

import json
import math
import random

import numpy as np
import pytest

from limbeck.evaluation.bootstrap import draw_rows, redrawn_scores
from limbeck.evaluation.finetune import SeedScore
from limbeck.evaluation.finetuning.validation import with_validation
from limbeck.evaluation.rankings import ranked_queries, ranking_scores
from limbeck.evaluation.task_files import load_task
from limbeck.evaluation.task_model import score_predictions


def plain(scores, relevances, queries):
    """nDCG@10 and reciprocal rank of every query that counts, in the order of first occurrence."""
    found = []
    for query in dict.fromkeys(queries):
        rows = [n for n, other in enumerate(queries) if other == query]
        gains = [max(0.0, relevances[n]) for n in rows]
        if max(gains) == min(gains):
            continue
        order = sorted(rows, key=lambda n: (-scores[n], relevances[n]))
        dcg = sum(max(0.0, relevances[n]) / math.log2(k + 2) for k, n in enumerate(order[:10]))
        best = sum(g / math.log2(k + 2) for k, g in enumerate(sorted(gains)[::-1][:10]))
        first = next(k for k, n in enumerate(order) if relevances[n] > 0)
        found.append((dcg / best, 1 / (first + 1)))
    return found


def test_graded_rows_of_many_queries():
    chance = random.Random(0)
    queries = [f"q{chance.randrange(12)}" for _ in range(200)] + ["alone"]
    relevances = [chance.choice([-1.0, 0.0, 0.0, 1.0, 2.5]) for _ in queries]
    scores = [chance.choice([0.1, 0.2, 0.3, chance.random()]) for _ in queries]  # with equal ones
    found = ranking_scores(scores, relevances, queries)
    expected = plain(scores, relevances, queries)
    assert len(expected) == len(ranked_queries(relevances, queries)) == 12
    assert found["ndcg_at_10"] == pytest.approx([one for one, _ in expected])
    assert found["mrr"] == pytest.approx([one for _, one in expected])


def test_one_answer_for_all_rows_gains_nothing_by_their_order():
    found = ranking_scores([1.0] * 4, [1.0, 0.0, 0.0, 0.0], ["q"] * 4)
    assert found["mrr"] == [0.25]
    assert ranking_scores([3.0, 1.0], [1.0, 1.0], ["q", "q"]) == {}  # any order is right
    assert ranking_scores([3.0, 1.0], [-1.0, 0.0], ["q", "q"]) == {}


def rows_of(queries: int, documents: int, name: str = "") -> list[dict]:
    return [
        {"text": f"{name} query {q}", "text_pair": f"text {q} {d}", "label": float(d == 0)}
        for q in range(queries)
        for d in range(documents)
    ]


def write(folder, name, train, dev):
    for split, rows in (("train", train), ("dev", dev)):
        (folder / f"{name}.{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return load_task(str(folder / name))


@pytest.fixture
def task(tmp_path):
    return write(tmp_path, "mine", rows_of(60, 4, "a"), rows_of(9, 5, "b"))


def test_rows_whose_queries_have_several_documents_are_ranked(task, tmp_path):
    assert task.headline == "ndcg_at_10" and len(set(task.queries)) == 9
    said = [random.Random(n).random() for n in range(45)]
    found = score_predictions(task, said, [])
    assert set(found) == {"spearman", "pearson", "ndcg_at_10", "mrr"}
    expected = np.mean(plain(said, task.relevances, task.queries), axis=0)
    assert [found["ndcg_at_10"], found["mrr"]] == pytest.approx(expected.tolist())
    some = rows_of(1, 3, "b") + [{**row, "text": f"own {n}"} for n, row in enumerate(rows_of(4, 2))]
    few = write(tmp_path, "few", rows_of(5, 1), some)
    assert few.headline == "spearman"
    assert "mrr" in score_predictions(few, said[:11], [])
    alone = write(tmp_path, "alone", rows_of(5, 1), rows_of(9, 1, "b"))
    assert set(score_predictions(alone, said[:9], [])) == {"spearman", "pearson"}
    known = write(tmp_path, "stsb", rows_of(5, 3), rows_of(9, 3, "b"))  # as it always was
    assert set(score_predictions(known, said[:27], [])) == {"spearman", "pearson"}


def test_whole_queries_are_redrawn(task):
    said = tuple(random.Random(n).random() for n in range(45))
    score = SeedScore(0, score_predictions(task, list(said), []), 0.0, labels=said)
    found = redrawn_scores(task, {0: [score]}, draw_rows(45, draws=30, seed=5))
    assert found.rows == 9 and not found.counted
    values = np.array([one for one, _ in plain(said, task.relevances, task.queries)])
    assert found.redrawn[0] == pytest.approx(values[draw_rows(9, draws=30, seed=0)].mean(1))
    assert found.observed[0] == pytest.approx(values.mean())


def test_whole_queries_are_set_apart_to_choose_by(task):
    held = with_validation(task, fraction=0.1, seed=0)
    assert held.headline == "ndcg_at_10" and len(held.test) == 60
    assert not {row.text for row in held.train} & {row.text for row in held.test}
