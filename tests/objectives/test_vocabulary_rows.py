"""Losses in blocks of rows equal plain losses, in values and gradients."""

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, linear, log_softmax

from limbeck.activations import Activations, Predictions
from limbeck.batch import Batch, Tokens
from limbeck.objectives import vocabulary_rows as module
from limbeck.objectives.labels import Labels
from limbeck.objectives.logits import Logits
from limbeck.objectives.uld import Uld
from limbeck.student.projections import Projections

ROWS, WIDTH, TOKENS = 23, 8, 40


@pytest.fixture(
    params=[(2**24, 2**18, 2**13), (7 * TOKENS, 3 * TOKENS, 11), (1, 1, 1)],
    ids=["all at once", "groups, blocks and parts with a rest", "one by one"],
)
def blocks(request, monkeypatch):
    """How rows and tokens are split."""
    group, block, tokens = request.param
    monkeypatch.setattr(module, "_GROUP", group)
    monkeypatch.setattr(module, "_BLOCK", block)
    monkeypatch.setattr(module, "_TOKENS", tokens)


@pytest.fixture
def rows():
    torch.manual_seed(0)
    features = torch.randn(ROWS, WIDTH, requires_grad=True)
    weight = torch.randn(TOKENS, WIDTH, requires_grad=True)
    bias = torch.randn(TOKENS, requires_grad=True)
    labels = torch.randint(TOKENS, (1, ROWS))
    every = torch.ones(1, ROWS, dtype=torch.bool)
    tokens = Tokens(input_ids=labels, mask=every, labels=labels, predicted=every)
    return features, weight, bias, Batch(tokens, tokens)


def test_labels_equal_the_plain_loss(blocks, rows):
    features, weight, bias, batch = rows
    student = Activations(predictions=Predictions(features, weight, bias))
    total = Labels().total(student, Activations(), batch, Projections({}, seed=0))
    plain = cross_entropy(linear(features, weight, bias), batch.student.labels[0], reduction="sum")
    same_loss_and_gradients(total, plain, [features, weight, bias])


@pytest.mark.parametrize("tokens", [None, 5, 40, 1000])
@pytest.mark.parametrize("theirs", [30, 40, 55])
def test_uld_equals_the_plain_loss(blocks, rows, tokens, theirs):
    features, weight, bias, batch = rows
    torch.manual_seed(1)
    wide = torch.randn(ROWS, 12), torch.randn(theirs, 12), torch.randn(theirs)
    student = Activations(predictions=Predictions(features, weight, bias))
    teacher = Activations(predictions=Predictions(*wide))
    objective = Uld(top_k=tokens, vocabularies=(TOKENS, theirs))
    total = objective.total(student, teacher, batch, Projections({}, seed=0))
    sides = [
        linear(*given).softmax(-1).sort(-1, descending=True).values
        for given in ((features, weight, bias), wide)
    ]
    most = min(tokens or 1000, 1000)
    sides = [torch.nn.functional.pad(side[:, :most], (0, 60))[:, :60] for side in sides]
    plain = (sides[0] - sides[1]).abs().sum()
    same_loss_and_gradients(total, plain, [features, weight, bias])


@pytest.mark.parametrize("with_bias", [True, False])
def test_logits_equal_the_plain_loss(blocks, rows, with_bias):
    features, weight, bias, batch = rows
    torch.manual_seed(1)
    wide = torch.randn(ROWS, 12), torch.randn(TOKENS, 12), torch.randn(TOKENS)
    student = Activations(predictions=Predictions(features, weight, bias if with_bias else None))
    teacher = Activations(predictions=Predictions(*wide))
    total = Logits().total(student, teacher, batch, Projections({}, seed=0))
    plain = kl_div(
        log_softmax(linear(features, weight, bias if with_bias else None), -1),
        log_softmax(linear(*wide), -1),
        log_target=True,
        reduction="sum",
    )
    learned = [features, weight, bias] if with_bias else [features, weight]
    same_loss_and_gradients(3 * total, 3 * plain, learned)


def same_loss_and_gradients(total, plain, learned):
    torch.testing.assert_close(total, plain, rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(total, learned)
    for mine, theirs in zip(found, torch.autograd.grad(plain, learned), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_no_block_is_larger_than_its_bound(rows, monkeypatch):
    features, weight, bias, _ = rows
    monkeypatch.setattr(module, "_BLOCK", 5 * TOKENS)
    seen = []

    def loss(logits, places):
        seen.append((places.tolist(), logits.shape))
        return logits.sum(), torch.ones_like(logits)

    given = {"tokens": TOKENS, "of_rows": [torch.arange(ROWS)]}
    module.vocabulary_loss(Predictions(features, weight, bias), None, loss, **given)
    assert seen == [
        ([*range(start, min(start + 5, ROWS))], (min(5, ROWS - start), TOKENS))
        for start in range(0, ROWS, 5)
    ]


def test_the_loss_needs_no_gradient_where_nothing_learns(rows):
    features, weight, bias, batch = rows
    student = Predictions(features.detach(), weight.detach(), bias.detach())
    total = Labels().total(
        Activations(predictions=student), Activations(), batch, Projections({}, seed=0)
    )
    assert not total.requires_grad


def test_no_gradients_are_computed_where_none_are_needed(rows, monkeypatch):
    features, weight, bias, batch = rows
    made = []
    monkeypatch.setattr(module._Map, "add_gradients", lambda *given: made.append(given))
    student = Activations(predictions=Predictions(features, weight, bias))
    arguments = student, Activations(), batch, Projections({}, seed=0)
    with torch.no_grad():
        measured = Labels().total(*arguments)
    assert not made and not measured.requires_grad
    assert torch.equal(measured, Labels().total(*arguments).detach()) and made
