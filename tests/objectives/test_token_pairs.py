import itertools
import math

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax

from limbeck.errors import ObjectiveError
from limbeck.objectives import token_pairs as module
from limbeck.objectives.token_pairs import compared_pairs, relation_divergence, score_difference


def by_loops(student_left, student_right, teacher_left, teacher_right, mask, heads):
    """The definition, one number at a time."""
    total = 0.0
    for text in range(mask.shape[0]):
        real = [n for n in range(mask.shape[1]) if mask[text, n]]
        for i in real:
            for head in range(heads):
                rows = []
                for left, right in ((teacher_left, teacher_right), (student_left, student_right)):
                    size = left.shape[-1] // heads
                    part = slice(head * size, (head + 1) * size)
                    scores = [
                        float(left[text, i, part] @ right[text, j, part]) / math.sqrt(size)
                        for j in real
                    ]
                    norm = math.log(sum(math.exp(s) for s in scores))
                    rows.append([s - norm for s in scores])
                total += sum(math.exp(p) * (p - q) for p, q in zip(*rows, strict=True)) / heads
    return total


def plain(student_left, student_right, teacher_left, teacher_right, mask, heads):
    """The same with everything materialised, for autograd."""

    def relations(left, right):
        left, right = (
            v.double().reshape(*v.shape[:2], heads, -1).transpose(1, 2) for v in (left, right)
        )
        scores = left @ right.mT / left.shape[-1] ** 0.5
        return log_softmax(scores.masked_fill(~mask[:, None, None, :], -1e300), dim=-1)

    divergence = kl_div(
        relations(student_left, student_right),
        relations(teacher_left, teacher_right).detach(),
        reduction="none",
        log_target=True,
    )
    return divergence.sum(-1).mean(1)[mask].sum()


@pytest.fixture(params=["processor", "gpu", "kernels"])
def vectors(request, monkeypatch):
    """Three texts with padding; as a GPU works on them too: all texts at once, and by kernels."""
    monkeypatch.setattr(module, "_on_gpu", lambda _: request.param != "processor")
    monkeypatch.setattr(module, "has_triton", lambda: request.param == "kernels")
    torch.manual_seed(0)
    student = [torch.randn(3, 9, 12, requires_grad=True) for _ in range(2)]
    teacher = [torch.randn(3, 9, 24) for _ in range(2)]
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 5:] = False
    mask[2, [0, 4, 8]] = False  # holes too, not only a padded end
    return student, teacher, mask


@pytest.mark.parametrize("heads", [1, 3, 12])
def test_equals_plain_loops(vectors, heads):
    student, teacher, mask = vectors
    expected = by_loops(*(v.detach() for v in student), *teacher, mask, heads)
    found = compared_pairs(*student, *teacher, mask, loss=relation_divergence, heads=heads)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scratch", [1, 40, 300, 2**19])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_gradients_equal_autograd_whatever_is_held_at_once(
    vectors, monkeypatch, scratch, padded, same
):
    student, teacher, mask = vectors
    mask = mask if padded else torch.ones_like(mask)
    if same:  # queries among queries
        student, teacher = [student[0], student[0]], [teacher[0], teacher[0]]
    for name in ("_SCRATCH", "_SCRATCH_CUDA"):
        monkeypatch.setattr(module, name, scratch)
    found = compared_pairs(*student, *teacher, mask, loss=relation_divergence, heads=3)
    expected = plain(*student, *teacher, mask, 3)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    inputs = student[:1] if same else student
    for ours, theirs in zip(
        torch.autograd.grad(found * 2, inputs),
        torch.autograd.grad(expected * 2, inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def plain_scores(student_left, student_right, teacher_left, teacher_right, mask, heads, causal):
    """Squared differences of scores, a pair of tokens at a time, for autograd."""

    def split(vectors, text, token, head):
        size = vectors.shape[-1] // heads
        return vectors[text, token, head * size : (head + 1) * size].double() / size**0.25

    total = torch.zeros((), dtype=torch.float64)
    for text in range(mask.shape[0]):
        real = [n for n in range(mask.shape[1]) if mask[text, n]]
        for i in real:
            seen = [j for j in real if j <= i or not causal]
            for j in seen:
                for head in range(heads):
                    mine, theirs = (
                        split(left, text, i, head) @ split(right, text, j, head)
                        for left, right in (
                            (student_left, student_right),
                            (teacher_left, teacher_right),
                        )
                    )
                    total = total + (mine - theirs) ** 2 / heads / len(seen)
    return total


@pytest.mark.parametrize("scratch", [1, 300, 2**19])
@pytest.mark.parametrize("causal", [True, False])
def test_score_differences_equal_plain_loops(vectors, monkeypatch, scratch, causal):
    student, teacher, mask = vectors
    for name in ("_SCRATCH", "_SCRATCH_CUDA"):
        monkeypatch.setattr(module, name, scratch)
    found = compared_pairs(*student, *teacher, mask, loss=score_difference, heads=3, causal=causal)
    expected = plain_scores(*student, *teacher, mask, 3, causal)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(found, student), torch.autograd.grad(expected, student), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [relation_divergence, score_difference])
@pytest.mark.parametrize("causal", [True, False])
def test_documents_in_a_row_are_as_alone(vectors, loss, causal):
    student, teacher, mask = vectors
    borders = [0, 4, 7, 9]
    documents = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2]).expand(3, 9)
    options = {"loss": loss, "heads": 3, "causal": causal}
    found = compared_pairs(*student, *teacher, mask, documents=documents, **options)
    expected = torch.zeros(())
    for start, stop in itertools.pairwise(borders):
        parts = [v[:, start:stop] for v in (*student, *teacher)]
        expected = expected + compared_pairs(*parts, mask[:, start:stop], **options)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(found, student), torch.autograd.grad(expected, student), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_two_tokens_by_hand():
    student = torch.zeros(1, 2, 1, requires_grad=True)  # both rows are one half, one half
    teacher = torch.tensor([[[1.0], [2.0]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    expected = 0.0
    for scores in ((1.0, 2.0), (2.0, 4.0)):
        p = math.exp(scores[0]) / (math.exp(scores[0]) + math.exp(scores[1]))
        expected += p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    found = compared_pairs(
        student, student, teacher, teacher, mask, loss=relation_divergence, heads=1
    )
    assert float(found.detach()) == pytest.approx(expected, rel=1e-6)


def test_large_scores_stay_finite_and_never_negative():
    torch.manual_seed(0)
    student = (torch.randn(2, 6, 8) * 100).bfloat16().requires_grad_()
    teacher = (torch.randn(2, 6, 8) * 100).bfloat16()
    mask = torch.ones(2, 6, dtype=torch.bool)
    found = compared_pairs(
        student, student, teacher, teacher, mask, loss=relation_divergence, heads=2
    )
    found.backward()
    assert found.dtype == torch.float32
    assert torch.isfinite(found) and found >= 0
    assert student.grad.dtype == torch.bfloat16 and torch.isfinite(student.grad).all()


def test_no_gradients_are_made_where_none_are_wanted(vectors):
    student, teacher, mask = vectors
    with torch.no_grad():
        found = compared_pairs(*student, *teacher, mask, loss=relation_divergence, heads=3)
    assert not found.requires_grad


def test_heads_that_do_not_divide_name_those_that_do(vectors):
    student, teacher, mask = vectors
    with pytest.raises(ObjectiveError, match=r"width 12 .* heads=5; use one of \[1, 2, 3"):
        compared_pairs(*student, *teacher, mask, loss=relation_divergence, heads=5)


def test_a_batch_in_which_nothing_is_compared_adds_nothing():
    student = torch.zeros(3, 0, 8, requires_grad=True)
    teacher, mask = torch.zeros(3, 0, 12), torch.ones(3, 0, dtype=torch.bool)
    total = compared_pairs(
        student, student, teacher, teacher, mask, loss=relation_divergence, heads=4
    )
    total.backward()
    assert total.item() == 0 and student.grad.shape == (3, 0, 8)
