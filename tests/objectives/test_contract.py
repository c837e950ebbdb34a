"""The rules that every objective must keep, checked for all of `OBJECTIVES`."""

import itertools
import sys
from dataclasses import replace

import pytest
import torch
from conftest import LABELS, make_batch, make_model, small_groups, with_task_head, with_vectors

from limbeck.batch import Batch, Tokens
from limbeck.models.capture import capture
from limbeck.models.families import ARCHITECTURES
from limbeck.models.shapes import shape_of
from limbeck.models.task_heads import SCORE, TaskHead
from limbeck.objectives import OBJECTIVES
from limbeck.student import recompute
from limbeck.student.projections import Projections
from limbeck.student.recompute import recompute_layers
from limbeck.training.learner import Learner

FAMILIES = ("bert", "gpt2", "llama")


class Pair:
    """A teacher, a narrower student, and one objective between them."""

    def __init__(self, case: tuple[str, str], *, same: bool = False) -> None:
        name, family = case
        self.architecture = ARCHITECTURES[family]
        self.teacher = make_model(family, seed=1).requires_grad_(False)
        self.student = make_model(
            family, hidden=24 if same else 16, layers=3 if same else 2, seed=1 if same else 2
        )
        shapes = [shape_of(m.config, self.architecture) for m in (self.student, self.teacher)]
        self.classes = name.startswith("class_")
        if self.classes or name == "margin_mse":
            head = TaskHead("token", LABELS) if self.classes else TaskHead("sequence", (SCORE,))
            self.teacher = with_task_head(self.teacher, head, seed=1).requires_grad_(False)
            self.student = with_task_head(self.student, head, seed=1 if same else 2)
            shapes = [replace(shape, labels=head.labels) for shape in shapes]
        if name.startswith("sentence_"):
            with_vectors(self.teacher, self.student)
        objective = small_groups(OBJECTIVES[name]())
        assert objective.problems_with(*shapes) == []
        self.objective = objective.bound(*shapes)
        self.projections = Projections(self.objective.projection_sizes(*shapes), seed=0)
        self.learner = Learner(
            self.student, {name: self.projections}, self.architecture, {name: self.objective}
        )
        self.name = name

    def total(self, batch: Batch, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        if self.classes:
            tokens = replace(batch.student, labels=batch.student.labels % len(LABELS))
            batch = Batch(tokens, tokens)
        if self.name == "margin_mse":  # transformers finds the last token of a text by its padding
            tokens, padding = batch.student, self.student.config.pad_token_id
            ids = tokens.input_ids.masked_fill(~tokens.mask, padding)
            tokens = replace(tokens, input_ids=ids)
            batch = Batch(tokens, tokens)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            needs = self.objective.teacher_needs()
            signals = capture(self.teacher, self.architecture, batch.teacher, needs)
            return self.learner(batch, signals)[self.name]

    def gradients(self, batches: list[Batch]) -> dict[str, torch.Tensor]:
        self.learner.zero_grad()
        sum(self.total(batch) for batch in batches).backward()
        return {n: p.grad for n, p in self.learner.named_parameters() if p.grad is not None}


def with_garbage_padding(batch: Batch, extra: int) -> Batch:
    tokens = batch.student
    rows, length = tokens.input_ids.shape
    ids = torch.full((rows, length + extra), 7)
    ids[:, :length] = tokens.input_ids
    false = torch.zeros(rows, length + extra, dtype=torch.bool)
    mask, predicted, labels = false.clone(), false.clone(), ids.clone()
    mask[:, :length], predicted[:, :length] = tokens.mask, tokens.predicted
    labels[:, :length] = tokens.labels
    ids[~mask], labels[~mask] = 9, 11
    longer = Tokens(ids, mask, labels=labels, predicted=predicted, queries=tokens.queries)
    return Batch(student=longer, teacher=longer)


@pytest.fixture(params=itertools.product(sorted(OBJECTIVES), FAMILIES), ids="-".join)
def case(request) -> tuple[str, str]:
    return request.param


def test_any_split_into_micro_batches_gives_the_same_sum_and_gradients(case):
    pair, batch = Pair(case), make_batch(rows=5)
    whole = pair.gradients([batch])
    for bounds in ([0, 1, 5], [0, 2, 3, 4, 5]):
        together = pair.objective.rows_together()
        ends = sorted({min(5, -(-end // together) * together) for end in bounds})
        parts = [batch.rows(a, b) for a, b in itertools.pairwise(ends)]
        assert sum(map(pair.objective.count, parts)) == pair.objective.count(batch)
        torch.testing.assert_close(
            sum(pair.total(part) for part in parts), pair.total(batch), rtol=1e-5, atol=1e-5
        )
        for parameter, gradient in pair.gradients(parts).items():
            torch.testing.assert_close(gradient, whole[parameter], rtol=2e-4, atol=2e-5)


def test_recomputed_layers_give_the_same_gradients(case, monkeypatch):
    pair, batch = Pair(case), make_batch()
    whole = pair.gradients([batch])
    recompute_layers(pair.student, pair.architecture)
    for parameter, gradient in pair.gradients([batch]).items():
        torch.testing.assert_close(gradient, whole[parameter], rtol=1e-4, atol=1e-6)
    # Without gradients no checkpoint is set up: a CUDA graph may record only kernels.
    monkeypatch.setattr(recompute, "checkpoint", None)
    with torch.no_grad():
        pair.total(batch)


def test_padding_never_counts(case):
    pair, batch = Pair(case), make_batch()
    padded = with_garbage_padding(batch, 5)
    assert pair.objective.count(padded) == pair.objective.count(batch)
    torch.testing.assert_close(pair.total(padded), pair.total(batch), rtol=1e-5, atol=1e-4)


def test_gradients_reach_the_student_and_projections_only(case):
    pair = Pair(case)
    pair.teacher.requires_grad_(True)  # even then the teacher may get no gradient
    pair.total(make_batch()).backward()
    assert all(p.grad is None for p in pair.teacher.parameters())
    reached = [n for n, p in pair.learner.named_parameters() if p.grad is not None]
    assert any(n.startswith("student.") for n in reached)
    assert all(p.grad is not None for p in pair.projections.parameters())


def test_totals_are_float32_and_finite_in_bfloat16(case):
    total = Pair(case).total(make_batch(), dtype=torch.bfloat16)
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
    assert total >= 0


def test_a_batch_of_padding_alone_counts_nothing_and_is_finite(case):
    pair, batch = Pair(case), make_batch(rows=2, padded=False)
    tokens = batch.student
    nothing = torch.zeros_like(tokens.mask)
    empty = replace(tokens, mask=nothing, predicted=nothing)
    total = pair.total(Batch(empty, empty))
    assert pair.objective.count(Batch(empty, empty)) == 0
    assert float(total.detach()) == 0.0
    total.backward()
    gradients = [p.grad for p in pair.learner.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() and not g.any() for g in gradients)


def test_zero_where_student_and_teacher_are_equal(case):
    pair = Pair(case, same=True)
    if not pair.objective.teacher_needs().anything:
        assert (
            float(pair.total(make_batch()).detach()) > 0
        )  # labels are never predicted with certainty
        return
    assert float(pair.total(make_batch()).detach()) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_says_its_unit_and_source(name):
    kind = OBJECTIVES[name]
    assert kind.unit
    assert "Source:" in (sys.modules[kind.__module__].__doc__ or "")
