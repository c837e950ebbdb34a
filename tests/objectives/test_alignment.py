"""Alignment against plain loops: pooled vectors, and output maps over other columns."""

import math
from dataclasses import replace

import pytest
import torch

from limbeck.activations import Activations, Predictions
from limbeck.batch import Batch, Links, Tokens
from limbeck.objectives.alignment import Alignment
from limbeck.objectives.logits import Logits
from limbeck.objectives.span_likelihood import SpanLikelihood
from limbeck.student.projections import Projections
from limbeck.token_ids import TokenIds

GROUPS = 4


@pytest.fixture
def links():
    student = torch.tensor([[-1, 0, 0, 1, -1, 2], [0, 1, 1, 1, -1, -1]])
    teacher = torch.tensor([[0, -1, 1, 2], [0, -1, -1, 1]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    nothing = torch.zeros(2, GROUPS, dtype=torch.int64)
    return Links(None, student, teacher, Tokens(nothing, mask, nothing, mask))


def read(groups):
    """Tokens; those that are linked are predicted."""
    nothing = torch.zeros_like(groups)
    return Tokens(nothing, torch.ones_like(groups) > 0, nothing, groups >= 0)


def by_loops(vectors, groups, pool):
    out = torch.zeros(2, GROUPS, vectors.shape[-1])
    for text in range(2):
        for group in range(GROUPS):
            here = [v for v, g in zip(vectors[text], groups[text], strict=True) if g == group]
            if here:
                out[text, group] = sum(here) / (len(here) if pool == "mean" else 1)
    return out


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_vectors_of_a_group_are_pooled(links, pool):
    torch.manual_seed(0)
    found = Activations(
        embeddings=torch.randn(2, 6, 3),
        hidden={1: torch.randn(2, 6, 3)},
        queries={0: torch.randn(2, 6, 5)},
    )
    aligned = Alignment(pool, torch.arange(2), torch.arange(2)).student(
        found, links, read(links.student)
    )
    torch.testing.assert_close(aligned.hidden[1], by_loops(found.hidden[1], links.student, pool))
    expected = by_loops(found.queries[0], links.student, pool)
    torch.testing.assert_close(aligned.queries[0], expected)
    torch.testing.assert_close(aligned.embeddings, by_loops(found.embeddings, links.student, pool))
    of_teacher = Activations(values={2: torch.randn(2, 4, 3)})
    taught = Alignment(pool, torch.arange(2), torch.arange(2)).teacher(
        of_teacher, links, read(links.teacher)
    )
    torch.testing.assert_close(
        taught.values[2], by_loops(of_teacher.values[2], links.teacher, pool)
    )


def predictions(positions, tokens, seed, bias=True):
    chance = torch.Generator().manual_seed(seed)
    return Predictions(
        torch.randn(positions, 3, generator=chance, requires_grad=True),
        torch.randn(tokens, 3, generator=chance, requires_grad=True),
        torch.randn(tokens, generator=chance, requires_grad=True) if bias else None,
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("pool", ["sum", "mean"])
@pytest.mark.parametrize("mapped", [True, False])
def test_logits_of_a_group_are_pooled_from_the_logits_of_its_tokens(links, pool, mapped, bias):
    mine = predictions(int((links.student >= 0).sum()), 7, 1, bias)
    theirs = predictions(int((links.teacher >= 0).sum()), 9, 2, bias)
    parts = [[3], [0, 5], [5, 5, 6]] if mapped else [[2], [0], [6]]
    columns = torch.tensor([8, 1, 4])
    flat = torch.tensor([token for some in parts for token in some])
    owner = torch.tensor([n for n, some in enumerate(parts) for _ in some]) if mapped else None
    alignment = Alignment(pool, flat, columns, owner=owner)
    of_student = alignment.student(
        Activations(predictions=mine), links, read(links.student)
    ).predictions
    of_teacher = alignment.teacher(
        Activations(predictions=theirs), links, read(links.teacher)
    ).predictions

    owners = [
        (text, int(group)) for text in range(2) for group in links.student[text] if group >= 0
    ]
    rows = [(text, group) for text in range(2) for group in range(GROUPS)]
    rows = [(t, g) for t, g in rows if links.groups.mask[t, g]]
    expected = []
    for row in rows:
        here = [logits for owner, logits in zip(owners, mine.logits(), strict=True) if owner == row]
        whole = sum(here) / (len(here) if pool == "mean" else 1)
        pooled = [sum(whole[i] for i in some) for some in parts]
        if pool == "mean":
            pooled = [p / len(some) for p, some in zip(pooled, parts, strict=True)]
        expected.append(torch.stack(pooled))
    torch.testing.assert_close(of_student.logits(), torch.stack(expected))
    torch.testing.assert_close(of_teacher.logits(), theirs.logits()[:, columns])


def test_logits_of_parts_as_the_logarithm_of_the_sum_of_exponentials(links):
    mine = predictions(int((links.student >= 0).sum()), 7, 1)
    parts = [[3], [0, 5], [5, 2, 6]]
    flat = torch.tensor([token for some in parts for token in some])
    columns, owner = torch.tensor([8, 1, 4]), torch.tensor([0, 1, 1, 2, 2, 2])
    alignment = Alignment("mean", flat, columns, owner=owner, summed_over=7)
    found = alignment.student(Activations(predictions=mine), links, read(links.student)).predictions
    pooled = Alignment("mean", torch.arange(7), torch.arange(7))
    whole = pooled.student(
        Activations(predictions=mine), links, read(links.student)
    ).predictions.logits()
    expected = torch.stack([whole[:, some].logsumexp(-1) for some in parts], dim=1)
    torch.testing.assert_close(found.logits(), expected)
    far = replace(mine, bias=200 * torch.arange(7.0))  # parts of which float32 holds no exponential
    found = alignment.student(Activations(predictions=far), links, read(links.student)).predictions
    assert torch.isfinite(found.logits()).all()


@pytest.mark.parametrize("pool", ["sum", "mean"])
@pytest.mark.parametrize("summed_over", [None, 7])
def test_the_logits_loss_reaches_features_and_the_whole_map(links, summed_over, pool):
    mine = predictions(int((links.student >= 0).sum()), 7, 1)
    theirs = predictions(int((links.teacher >= 0).sum()), 9, 2)
    flat, owner = torch.tensor([3, 0, 5, 5, 6]), torch.tensor([0, 1, 1, 2, 2])
    columns = torch.tensor([8, 1, 4])
    alignment = Alignment(pool, flat, columns, owner=owner, summed_over=summed_over)
    student = alignment.student(Activations(predictions=mine), links, read(links.student))
    teacher = alignment.teacher(Activations(predictions=theirs), links, read(links.teacher))
    compared = Batch(links.groups, links.groups)
    objective = Logits(vocabulary=3)
    total = objective.total(student, teacher, compared, Projections({}, seed=0))
    logs = [torch.log_softmax(side.predictions.logits(), -1) for side in (student, teacher)]
    expected = (logs[1].exp() * (logs[1] - logs[0])).sum()
    torch.testing.assert_close(total, expected)
    assert objective.count(compared) == 5
    inputs = [mine.features, mine.weight, mine.bias]
    for ours, plain in zip(
        torch.autograd.grad(total, inputs, retain_graph=True),
        torch.autograd.grad(expected, inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_likelihoods_of_spans_are_sums_over_their_tokens(links):
    following = torch.tensor([[0, 0, 1, -1, 2, -1], [0, 1, 1, 1, -1, -1]])
    links = replace(links, student_next=following)
    predicted = torch.ones(2, 6, dtype=torch.bool)
    labels = torch.randint(0, 7, (2, 6), generator=torch.Generator().manual_seed(5))
    tokens = Tokens(labels, predicted, labels, predicted)
    mine = predictions(12, 7, 1)
    alignment = Alignment("sum", None, None, likelihoods=True)
    found = alignment.student(Activations(predictions=mine), links, tokens)
    logs = mine.logits().log_softmax(-1).view(2, 6, 7)
    expected = []
    for text in range(2):
        for group in range(int(links.groups.mask[text].sum())):
            places = (following[text] == group).nonzero().flatten().tolist()
            expected.append(sum(logs[text, place, labels[text, place]] for place in places))
    torch.testing.assert_close(found.likelihoods, torch.stack(expected))
    inputs = [mine.features, mine.weight, mine.bias]
    for ours, plain in zip(
        torch.autograd.grad(found.likelihoods.square().sum(), inputs),
        torch.autograd.grad(torch.stack(expected).square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


def test_likelihoods_are_of_the_tokens_that_each_tokenizer_has(links):
    links = replace(links, student_next=links.student, teacher_next=links.teacher)
    sides = {"student": TokenIds(6, (2,)), "teacher": TokenIds(5)}
    alignment = Alignment(
        "sum",
        None,
        None,
        likelihoods=True,
        **{f"{whose}_ids": ids for whose, ids in sides.items()},
    )
    for whose, ids in sides.items():
        groups = getattr(links, whose)
        every, labels = torch.ones_like(groups) > 0, torch.full_like(groups, 4)
        given = predictions(groups.numel(), 7, 1)
        read_by = Tokens(labels, every, labels, every)
        found = getattr(alignment, whose)(Activations(predictions=given), links, read_by)
        logits = given.logits()
        logs = logits[:, 4] - logits[:, ids.columns("cpu")].logsumexp(-1)
        expected = logs.new_zeros(2, GROUPS).scatter_add(
            1, groups.clamp_min(0), torch.where(groups >= 0, logs.view_as(groups), 0)
        )
        torch.testing.assert_close(found.likelihoods, expected[links.groups.mask])


@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_chunks_equal_their_definition(links, temperature):
    torch.manual_seed(0)
    mine = (-5 * torch.rand(5)).requires_grad_()
    theirs = -5 * torch.rand(5)
    sides = [Activations(likelihoods=side) for side in (mine, theirs)]
    compared = Batch(links.groups, links.groups)
    objective = SpanLikelihood(temperature=temperature)
    assert objective.count(compared) == 5
    total = objective.total(*sides, compared, Projections({}, seed=0))
    expected = 0.0
    for mine_, theirs_ in zip(mine.tolist(), theirs.tolist(), strict=True):
        q, p = math.exp(mine_ / temperature), math.exp(theirs_ / temperature)
        expected += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert float(total.detach()) == pytest.approx(temperature * expected, rel=1e-4)
    total.backward()
    assert torch.isfinite(mine.grad).all() and mine.grad.any()
    same = [Activations(likelihoods=side) for side in (theirs, theirs)]
    assert float(objective.total(*same, compared, Projections({}, seed=0))) == 0.0
