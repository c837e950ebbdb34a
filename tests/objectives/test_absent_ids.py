"""Losses over ids of which some, in between or at the end, are not tokens."""

import math

import pytest
import torch
from torch.nn.functional import linear, log_softmax

from limbeck.activations import Activations, Predictions, Selected
from limbeck.batch import Batch, Tokens
from limbeck.models.shapes import Shape
from limbeck.objectives import vocabulary_rows as module
from limbeck.objectives.divergences import DIVERGENCES
from limbeck.objectives.labels import Labels
from limbeck.objectives.logits import Logits
from limbeck.objectives.span_likelihood import SpanLikelihood
from limbeck.objectives.uld import Uld
from limbeck.student.projections import Projections
from limbeck.token_ids import TokenIds

ROWS, WIDTH, TABLE, TEACHER_TABLE = 13, 6, 45, 47
IDS = TokenIds(40, absent=(0, 7, 8, 9, 21, 38))
THEIRS = TokenIds(33, absent=(2, 30))


@pytest.fixture(params=[(2**24, 2**18, 2**13), (60, 40, 7)], ids=["at once", "in parts"])
def blocks(request, monkeypatch):
    for name, value in zip(("_GROUP", "_BLOCK", "_TOKENS"), request.param, strict=True):
        monkeypatch.setattr(module, name, value)


def shape(ids, table=TABLE):
    return Shape(2, 8, 2, 16, table, max_position_embeddings=20).of_tokens(ids)


@pytest.fixture
def student():
    torch.manual_seed(0)
    shapes = (ROWS, WIDTH), (TABLE, WIDTH), (TABLE,)
    return Predictions(*(torch.randn(*size).requires_grad_() for size in shapes))


@pytest.fixture
def teacher():
    torch.manual_seed(1)
    table = torch.randn(TEACHER_TABLE, 4), torch.randn(TEACHER_TABLE)
    return Predictions(torch.randn(ROWS, 4), *table)


@pytest.fixture
def batch():
    torch.manual_seed(2)
    labels = torch.from_numpy(IDS.present)[torch.randint(len(IDS), (1, ROWS))]
    every = torch.ones(1, ROWS, dtype=torch.bool)
    tokens = Tokens(labels, every, labels, every)
    return Batch(tokens, tokens)


def without_absent(predictions, ids):
    """The same predictions over a table that has only the rows of tokens."""
    rows = torch.from_numpy(ids.present)
    weight, bias = predictions.weight[rows], predictions.bias[rows]
    return Predictions(predictions.features, weight, bias)


def total_of(objective, student, teacher, batch, **options):
    sides = (Activations(predictions=side) for side in (student, teacher))
    return objective.total(*sides, batch, Projections({}, seed=0))


def same(one, other, student):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    learned = [student.features, student.weight, student.bias]
    mine, theirs = (torch.autograd.grad(total, learned) for total in (one, other))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    for gradient in mine[1:]:
        assert not gradient[list(IDS.absent)].any() and not gradient[IDS.end :].any()


@pytest.mark.parametrize("signal", ["dense", "top_k"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_logits(blocks, student, teacher, batch, divergence, signal):
    objective = Logits(
        divergence=divergence,
        signal=signal,
        top_k=5 if signal == "top_k" else None,
        temperature=2.0,
    )
    shapes = shape(IDS), shape(IDS, TEACHER_TABLE)
    assert objective.problems_with(*shapes) == []
    found = total_of(objective.bound(*shapes), student, teacher, batch)
    plain = (without_absent(side, IDS) for side in (student, teacher))
    same(found, total_of(objective, *plain, batch), student)


def test_the_forward_kl_in_plain_loops(student, teacher, batch):
    objective = Logits().bound(shape(IDS), shape(IDS, TEACHER_TABLE))
    found = float(total_of(objective, student, teacher, batch).detach())
    expected, ids = 0.0, IDS.present.tolist()
    for row in range(ROWS):
        sides = [
            {n: float((side.features[row] @ side.weight[n] + side.bias[n]).detach()) for n in ids}
            for side in (teacher, student)
        ]
        p, q = ({n: math.exp(side[n]) for n in ids} for side in sides)
        for n in ids:
            share = p[n] / sum(p.values())
            expected += share * math.log(share / (q[n] / sum(q.values())))
    assert found == pytest.approx(expected, rel=1e-5)
    tables = shape(TokenIds(IDS.end)), shape(TokenIds(TEACHER_TABLE))
    named = Logits(vocabulary=IDS).bound(*tables)  # where the models alone are known
    assert float(total_of(named, student, teacher, batch).detach()) == pytest.approx(found)
    # The first rows, as many as there are tokens, are others.
    first = Logits(vocabulary=len(IDS))
    assert float(total_of(first, student, teacher, batch).detach()) != pytest.approx(
        expected, rel=1e-3
    )


def test_samples_of_the_teacher_are_tokens(student, teacher, batch):
    bound = Logits(signal="sampled", num_samples=500).bound(shape(IDS), shape(IDS, TEACHER_TABLE))
    torch.manual_seed(3)
    total = total_of(bound, student, teacher, batch)
    (gradient,) = torch.autograd.grad(total, student.bias)
    assert gradient[IDS.present].any() and not gradient[list(IDS.absent)].any()


@pytest.mark.parametrize("tokens", [4, None])
def test_uld(blocks, student, teacher, batch, tokens):
    objective = Uld(top_k=tokens)
    shapes = shape(IDS), shape(THEIRS, TEACHER_TABLE)
    assert objective.problems_with(*shapes) == []
    found = total_of(objective.bound(*shapes), student, teacher, batch)
    plain = without_absent(student, IDS), without_absent(teacher, THEIRS)
    same(found, total_of(objective, *plain, batch), student)


def test_labels(blocks, student, batch):
    found = total_of(Labels().bound(shape(IDS), None), student, None, batch)
    logs = log_softmax(linear(student.features, student.weight, student.bias)[:, IDS.present], -1)
    places = [IDS.present.tolist().index(label) for label in batch.student.labels[0].tolist()]
    same(found, -sum(logs[row, place] for row, place in enumerate(places)), student)


def test_span_likelihood_of_one_vocabulary(student, teacher, batch):
    objective = SpanLikelihood()
    found = total_of(
        objective.bound(shape(IDS), shape(IDS, TEACHER_TABLE)), student, teacher, batch
    )
    labels = IDS.columns_of(batch.student.labels)
    tokens = Tokens(labels, batch.student.mask, labels, batch.student.predicted)
    plain = (without_absent(side, IDS) for side in (student, teacher))
    same(found, total_of(objective, *plain, Batch(tokens, tokens)), student)


def test_what_is_known_of_some_tokens_gives_the_rest_to_the_other_tokens():
    tokens = torch.tensor([[1, 39, 10]])
    logs = torch.tensor([[0.5, 0.2, 0.1]]).log()
    known = Selected(tokens, logs, torch.tensor([0.2]).log())
    found = known.logits(slice(None), IDS).exp()
    assert found.shape == (1, len(IDS))
    torch.testing.assert_close(found.sum(), torch.tensor(1.0))
    columns = [IDS.present.tolist().index(n) for n in (1, 39, 10)]
    torch.testing.assert_close(found[0, columns], torch.tensor([0.5, 0.2, 0.1]))


def test_tables_whose_ids_differ_cannot_be_compared():
    other = TokenIds(40, absent=(0, 7, 8, 9, 21, 37))
    problems = Logits().problems_with(shape(IDS), shape(other, TEACHER_TABLE))
    assert [field for field, _ in problems] == [""]
