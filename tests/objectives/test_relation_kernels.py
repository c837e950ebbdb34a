"""The GPU kernels of relations against float64, in Triton's interpreter where there is no GPU."""

import itertools

import pytest
import torch
from torch.nn.functional import log_softmax

from limbeck.objectives import token_pairs
from limbeck.objectives.token_pairs import compared_pairs, relation_divergence

pytest.importorskip("triton", reason="Triton is built for Linux alone")

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
# The interpreter multiplies no bfloat16.
PRECISIONS = [torch.float32, torch.bfloat16] if ON_GPU else [torch.float32]
SIZES = [(70, 3, 8, 12), (130, 2, 20, 33)]  # tokens, heads, widths of slices of both models


@pytest.fixture(autouse=True)
def by_kernels(monkeypatch):
    monkeypatch.setattr(token_pairs, "kernels_take", lambda *given: True)


def exact(student, teacher, mask, documents, heads, causal):
    """All scores at once, in float64."""

    def scores(left, right):
        split = [v.double().unflatten(-1, (heads, -1)).transpose(1, 2) for v in (left, right)]
        return split[0] @ split[1].mT / split[0].shape[-1] ** 0.5

    tokens = mask.shape[1]
    seen = mask[:, None, None, :] & mask[:, None, :, None]
    seen = seen & (documents[:, None, :, None] == documents[:, None, None, :])
    if causal:
        seen = seen & torch.ones(tokens, tokens).tril().bool()
    seen = seen | torch.eye(tokens, dtype=torch.bool)  # rows of padding, which do not count
    mine, theirs = (
        log_softmax(scores(*side).masked_fill(~seen, -1e30), -1) for side in (student, teacher)
    )
    divergence = torch.where(seen, theirs.exp() * (theirs - mine), 0.0)
    return divergence.sum(-1).mean(1)[mask].sum()


def sides(tokens, width, same, precision):
    left, right = (torch.randn(2, tokens, width).to(precision) for _ in range(2))
    return [left, left] if same else [left, right]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("same", [True, False], ids=["QQ", "QK"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "all"])
@pytest.mark.parametrize(("padded", "apart"), [*itertools.product([True, False], repeat=2)])
def test_kernels_equal_float64(size, precision, same, causal, padded, apart):
    torch.manual_seed(0)
    tokens, heads, mine, theirs = size
    student = sides(tokens, heads * mine, same, precision)
    teacher = sides(tokens, heads * theirs, same, precision)
    learned = student[:1] if same else student
    for side in learned:
        side.requires_grad_()
    mask = torch.ones(2, tokens, dtype=torch.bool)
    if padded:
        mask[0, tokens // 2 :] = False
    documents = (torch.arange(tokens) // (17 if apart else tokens)).expand(2, -1)
    expected = exact(student, teacher, mask, documents, heads, causal)
    slopes = torch.autograd.grad(expected, learned)

    there = [side.detach().to(DEVICE).requires_grad_() for side in learned]
    found = compared_pairs(
        there[0],
        there[-1],
        *(side.to(DEVICE) for side in ([teacher[0]] * 2 if same else teacher)),
        mask.to(DEVICE),
        loss=relation_divergence,
        heads=heads,
        causal=causal,
        documents=documents.to(DEVICE) if apart else None,
        padded=padded,
    )
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    # A gradient is rounded to the precision of what it belongs to.
    most = 1e-5 if precision == torch.float32 else 4e-3
    for ours, exactly in zip(torch.autograd.grad(found, there), slopes, strict=True):
        difference = (ours.cpu().double() - exactly.double()).norm()
        assert difference <= most * exactly.double().norm()


def test_a_student_alone_may_have_the_same_sides():
    torch.manual_seed(0)
    student = [torch.randn(2, 9, 12, requires_grad=True)] * 2
    teacher = sides(9, 24, same=False, precision=torch.float32)
    mask, documents = torch.ones(2, 9, dtype=torch.bool), torch.zeros(2, 9)
    (expected,) = torch.autograd.grad(
        exact(student, teacher, mask, documents, 3, False), student[0]
    )
    there = student[0].detach().to(DEVICE).requires_grad_()
    others = [side.to(DEVICE) for side in teacher]
    given = {"loss": relation_divergence, "heads": 3}
    found = compared_pairs(there, there, *others, mask.to(DEVICE), **given)
    (ours,) = torch.autograd.grad(found, there)
    torch.testing.assert_close(ours.cpu(), expected, rtol=1e-4, atol=1e-5)
