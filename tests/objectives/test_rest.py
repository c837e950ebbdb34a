"""Where the rest has little probability, losses and gradients equal those of float64."""

import math

import pytest
import torch
from torch import Tensor

from limbeck.activations import Activations, Predictions, log_rest
from limbeck.batch import Batch, Tokens
from limbeck.objectives import labels
from limbeck.objectives.divergences import DIVERGENCES
from limbeck.objectives.labels import label_log_likelihoods
from limbeck.objectives.logits import Logits
from limbeck.objectives.span_likelihood import SpanLikelihood
from limbeck.student.projections import Projections

RESTS = [-1.0, -5.0, -10.0, -20.0, -40.0, -70.0]


def with_rest(log_rest: float, tokens: int = 12, top: int = 3) -> Tensor:
    """Log-probabilities, float64, whose last tokens have this sum, unevenly shared."""
    torch.manual_seed(0)
    first = torch.log_softmax(0.2 * torch.randn(top, dtype=torch.float64), -1)
    first += math.log1p(-math.exp(log_rest))
    others = torch.log_softmax(0.2 * torch.randn(tokens - top, dtype=torch.float64), -1) + log_rest
    return torch.cat([first, others])[None]


def total_of(objective, student: Tensor, teacher: Tensor) -> Tensor:
    """The objective on rows whose output map is the identity, so that features are logits."""
    rows, columns = student.shape
    every = torch.ones(1, rows, dtype=torch.bool)
    ids = torch.zeros(1, rows, dtype=torch.long)
    tokens = Tokens(input_ids=ids, mask=every, labels=ids, predicted=every)
    given = [
        Activations(predictions=Predictions(logits, torch.eye(columns, dtype=logits.dtype), None))
        for logits in (student, teacher)
    ]
    return objective.total(*given, Batch(tokens, tokens), Projections({}, seed=0))


@pytest.mark.parametrize("rest", RESTS)
def test_the_rest_is_what_is_outside(rest):
    logs = with_rest(rest).float()
    found = log_rest(logs + 3.0, torch.tensor([[2, 0, 1]]))
    torch.testing.assert_close(found, torch.tensor([[rest + 3.0]]), rtol=1e-6, atol=1e-5)


def test_no_gradient_of_the_rest_is_lost():
    """The teacher's rest has a half, the student's almost nothing: it should grow by a half."""
    for rest in RESTS[1:]:
        student = with_rest(rest).float().requires_grad_()
        objective = Logits(signal="top_k", top_k=3)
        total = total_of(objective, student, with_rest(math.log(0.5)).float())
        (gradient,) = torch.autograd.grad(total, student)
        assert float(gradient[0, 3:].sum()) == pytest.approx(math.exp(rest) - 0.5, abs=1e-5)
        assert float(gradient.sum()) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
@pytest.mark.parametrize("theirs", [-0.7, -10.0, -20.0])
@pytest.mark.parametrize("mine", RESTS)
def test_top_k_is_that_of_float64(divergence, mine, theirs):
    if divergence in ("total_variation", "adaptive_kl") and mine == theirs:
        return  # where both are equal these have a corner, or weights of nothing
    objective = Logits(signal="top_k", top_k=3, divergence=divergence)
    found = []
    for dtype in (torch.float32, torch.float64):
        student = with_rest(mine).to(dtype).requires_grad_()
        exact = joined(divergence, student, with_rest(theirs)) if dtype == torch.float64 else None
        total = total_of(objective, student, with_rest(theirs).float()) if exact is None else exact
        found.append((float(total.detach()), torch.autograd.grad(total, student)[0].double()))
    (value, gradient), (right, exactly) = found
    assert value == pytest.approx(right, rel=1e-4, abs=5e-6)
    torch.testing.assert_close(gradient, exactly, rtol=1e-4, atol=2e-6)


def joined(name: str, student: Tensor, teacher: Tensor) -> Tensor:
    """The definition over the top tokens and all others as one, by autograd."""
    top = teacher.topk(3, -1).indices
    logs = []
    for given in (teacher, student.log_softmax(-1)):
        outside = given.scatter(-1, top, -math.inf).logsumexp(-1, keepdim=True)
        logs.append(torch.cat([given.gather(-1, top), outside], -1))
    p, q = (side.exp() for side in logs)
    forward, reverse = (p * (logs[0] - logs[1])).sum(), (q * (logs[1] - logs[0])).sum()
    if name == "jensen_shannon":
        middle = ((p + q) / 2).log()
        return ((p * (logs[0] - middle)).sum() + (q * (logs[1] - middle)).sum()) / 2
    if name == "skewed_kl":
        return (p * (logs[0] - (0.1 * p + 0.9 * q).log())).sum()
    if name == "skewed_reverse_kl":
        return (q * (logs[1] - (0.9 * p + 0.1 * q).log())).sum()
    if name == "total_variation":
        return 0.5 * (p - q).abs().sum()
    if name == "alpha_beta":
        both = (0.2 * logs[0] + 0.7 * logs[1]).exp()
        sums = (0.2 * (0.9 * logs[0]).exp() + 0.7 * (0.9 * logs[1]).exp()) / 0.9
        return (sums - both).sum() / 0.14
    if name == "adaptive_kl":
        order = p.argsort(descending=True)
        before = p.gather(-1, order).cumsum(-1) - p.gather(-1, order)
        gaps = (p - q).abs().detach().gather(-1, order)
        share = gaps[before < 0.5].sum() / gaps.sum()
        return share * forward + (1 - share) * reverse
    return forward if name == "forward_kl" else reverse


@pytest.mark.parametrize("rest", RESTS)
def test_likelihoods_of_labels_that_are_nearly_certain(rest):
    logits = with_rest(rest, top=1).float().requires_grad_()
    predictions = Predictions(logits, torch.eye(12), None)
    found = label_log_likelihoods(predictions, torch.tensor([0]))
    assert float(found.detach()) == pytest.approx(math.log1p(-math.exp(rest)), rel=1e-4)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert float(gradient[0, 0]) == pytest.approx(math.exp(rest), rel=1e-4)


def test_likelihoods_of_bounded_logits(monkeypatch):
    """As Gemma 2 bounds them, and of more rows than are computed at once."""
    monkeypatch.setattr(labels, "_TOGETHER", 2 * 12)
    features, labels_of = 5 * torch.randn(5, 12), torch.tensor([3, 0, 11, 3, 7])
    predictions = Predictions(features, torch.eye(12), torch.linspace(-1, 1, 12), soft_cap=2.0)
    logits = 2 * torch.tanh((features + torch.linspace(-1, 1, 12)).double() / 2)
    expected = logits.log_softmax(-1)[torch.arange(5), labels_of]
    torch.testing.assert_close(label_log_likelihoods(predictions, labels_of), expected.float())


@pytest.mark.parametrize("theirs", [-0.7, -10.0])
@pytest.mark.parametrize("mine", RESTS)
@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_span_likelihood_is_that_of_float64(mine, theirs, temperature):
    student = with_rest(mine, top=1).float().requires_grad_()
    total = total_of(
        SpanLikelihood(temperature=temperature), student, with_rest(theirs, top=1).float()
    )
    (gradient,) = torch.autograd.grad(total, student)
    exact = with_rest(mine, top=1).requires_grad_()
    sides = []
    for given in (with_rest(theirs, top=1), exact):
        # log of 1 - e^-softplus(x), which float64 holds where 1 - q does not
        rest = given[:, 1:].logsumexp(-1) - given[:, 0]
        likely = -torch.nn.functional.softplus(rest, threshold=700) / temperature
        sides.append((likely, torch.log(-torch.expm1(likely))))
    (p, p_rest), (q, q_rest) = sides
    plain = temperature * (p.exp() * (p - q) + p_rest.exp() * (p_rest - q_rest)).sum()
    assert float(total.detach()) == pytest.approx(float(plain.detach()), rel=1e-4, abs=1e-5)
    (exactly,) = torch.autograd.grad(plain, exact)
    torch.testing.assert_close(gradient.double(), exactly, rtol=1e-3, atol=1e-6)


def test_a_student_that_is_certain_beyond_float32_continues_to_learn():
    """Outside the top no probability fits float32, yet all tokens there are pulled up equally."""
    student = torch.full((1, 12), -200.0)
    student[0, 0] = 0.0
    student.requires_grad_()
    total = total_of(Logits(signal="top_k", top_k=3), student, with_rest(math.log(0.5)).float())
    (gradient,) = torch.autograd.grad(total, student)
    torch.testing.assert_close(gradient[0, 3:], torch.full((9,), -0.5 / 9))
    (gradient,) = torch.autograd.grad(
        total_of(SpanLikelihood(temperature=1.0), student, with_rest(-0.7).float()), student
    )
    assert torch.isfinite(gradient).all()
