"""Margins between documents of one query, against plain loops."""

from dataclasses import replace

import pytest
import torch

from limbeck.activations import Activations
from limbeck.batch import Batch, Tokens
from limbeck.errors import ObjectiveError
from limbeck.models.shapes import Shape
from limbeck.objectives import MarginMse
from limbeck.student.projections import Projections

NONE = Projections({}, seed=0)


def shape(*labels: str) -> Shape:
    return Shape(2, 16, 2, 32, 100, 40, labels=labels)


def batch(queries) -> Batch:
    """Rows of three tokens."""
    ids = torch.arange(3 * len(queries)).reshape(-1, 3)
    yes = torch.ones_like(ids, dtype=torch.bool)
    predicted = torch.zeros_like(yes)
    predicted[:, 0] = True
    queries = None if None in queries else torch.tensor(queries)
    tokens = Tokens(ids, yes, ids, predicted, queries=queries)
    return Batch(tokens, tokens)


def said(scores) -> Activations:
    return Activations(class_logits=torch.tensor(scores, dtype=torch.float32)[:, None])


MINE = [0.5, -1.0, 2.0, 0.0, 3.0, 1.5, 0.25]
THEIRS = [4.0, 1.0, -2.0, 2.5, 1.0, 0.5, -3.0]


@pytest.mark.parametrize(
    "queries",
    [
        [0, 0, 1, 1, 0, 0, 2],  # a last row alone; a query in two pairs
        [0, 1, 1, 1, 2, 3, 3],  # the pairs of the first and the third place are of two queries
        [0, 1, 2, 3, 4, 5, 6],
        [8],
    ],
    ids=str,
)
def test_margins_of_pairs_of_one_query(queries):
    mine = said(MINE[: len(queries)])
    mine.class_logits.requires_grad_(True)
    total = MarginMse().total(mine, said(THEIRS[: len(queries)]), batch(queries), NONE)
    expected, count, slopes = 0.0, 0, [0.0] * len(queries)
    for a in range(0, len(queries) - 1, 2):
        b = a + 1
        if queries[a] == queries[b]:
            off = (MINE[a] - MINE[b]) - (THEIRS[a] - THEIRS[b])
            expected += off**2
            count += 1
            slopes[a] += 2 * off
            slopes[b] -= 2 * off
    assert MarginMse().count(batch(queries)) == count
    assert float(total.detach()) == pytest.approx(expected)
    total.backward()
    assert mine.class_logits.grad.flatten().tolist() == pytest.approx(slopes)


def test_a_constant_that_is_added_to_a_query_is_not_learned():
    rows, moved = batch([0, 0, 1, 1]), [value + 7 for value in THEIRS[:4]]
    one, other = (
        MarginMse().total(said(MINE[:4]), said(t), rows, NONE) for t in (THEIRS[:4], moved)
    )
    assert float(one) == pytest.approx(float(other))
    assert MarginMse().rows_together() == 2


def test_padding_rows_are_in_no_pair():
    tokens = batch([0, 0, 1, 1]).student
    mask = tokens.mask.clone()
    for row in (3, 0):
        mask[row] = False
        padded = replace(tokens, mask=mask)
        assert MarginMse().count(Batch(padded, padded)) == (1 if row else 0)


def test_what_does_not_fit():
    with pytest.raises(ObjectiveError, match="whose"):
        MarginMse().total(said(MINE[:2]), said(THEIRS[:2]), batch([None, None]), NONE)
    classes = Activations(class_logits=torch.zeros(2, 3))
    with pytest.raises(ObjectiveError, match="num_labels 1"):
        MarginMse().total(classes, classes, batch([0, 0]), NONE)


@pytest.mark.parametrize(
    ("student", "teacher", "said_of_it"),
    [
        (("a", "b"), ("a", "b"), "class_logits"),
        (("a",), ("a",), "class_logits"),
        (("score",), ("a", "b"), "differ"),
        (("score",), (), "limbeck finetune"),
        ((), ("score",), "data.task"),
        (("score",), None, "needs a teacher"),
    ],
)
def test_heads_that_give_no_score_are_refused(student, teacher, said_of_it):
    other = None if teacher is None else shape(*teacher)
    [(_, message)] = MarginMse().problems_with(shape(*student), other)
    assert said_of_it in message
