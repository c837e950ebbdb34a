"""Objectives over the heads of tasks, against plain loops."""

import math
from dataclasses import replace

import pytest
import torch

from limbeck.activations import Activations
from limbeck.batch import UNLABELED, Batch, Tokens
from limbeck.models.shapes import Shape
from limbeck.objectives import ClassLabels, ClassLogits
from limbeck.objectives.measures import MEASURES
from limbeck.student.projections import Projections

NONE = Projections({}, seed=0)


def shape(*labels: str) -> Shape:
    return Shape(2, 16, 2, 32, 100, 40, labels=labels)


def batch(labels, *, scores=None) -> Batch:
    """Three texts of four tokens, of which the first is predicted."""
    ids = torch.arange(12).reshape(3, 4)
    yes = torch.ones(3, 4, dtype=torch.bool)
    predicted = torch.zeros_like(yes)
    predicted[:, 0] = True
    table = torch.full((3, 4), UNLABELED)
    table[:, 0] = torch.tensor(labels)
    numbers = None
    if scores is not None:
        numbers = torch.full((3, 4), float("nan"))
        numbers[:, 0] = torch.tensor(scores)
    tokens = Tokens(ids, yes, table, predicted, scores=numbers)
    return Batch(tokens, tokens)


def said(logits) -> Activations:
    return Activations(class_logits=torch.as_tensor(logits, dtype=torch.float32))


def softmax(row, temperature=1.0):
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


MINE = [[0.2, -1.0, 0.5], [2.0, 0.1, -0.3], [0.0, 0.4, 0.9]]
THEIRS = [[1.0, 0.3, -0.2], [0.5, 0.5, 0.1], [-1.0, 2.0, 0.3]]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_class_logits_are_the_divergence_of_probabilities(temperature):
    objective = ClassLogits(temperature=temperature).bound(shape(*"abc"), shape(*"abc"))
    mine = said(MINE)
    mine.class_logits.requires_grad_(True)
    total = objective.total(mine, said(THEIRS), batch([0, 1, 2]), NONE)
    expected, slopes = 0.0, []
    for row, other in zip(MINE, THEIRS, strict=True):
        q, p = softmax(row, temperature), softmax(other, temperature)
        expected += temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        slopes.append([temperature * (b - a) for a, b in zip(p, q, strict=True)])
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    total.backward()
    assert torch.allclose(mine.class_logits.grad, torch.tensor(slopes), atol=1e-6)


@pytest.mark.parametrize("divergence", sorted(MEASURES))
def test_gradients_of_every_divergence_are_those_of_finite_differences(divergence):
    if divergence in ("adaptive_kl", "total_variation"):
        return  # weights are constants, and a kink: `test_divergences` has their slopes
    objective = ClassLogits(divergence=divergence, temperature=1.5)
    mine = said(MINE)
    mine.class_logits.requires_grad_(True)
    objective.total(mine, said(THEIRS), batch([0, 1, 2]), NONE).backward()
    for place in ((0, 0), (1, 2), (2, 1)):
        ends = []
        for step in (1e-2, -1e-2):
            moved = torch.tensor(MINE)
            moved[place] += step
            ends.append(float(objective.total(said(moved), said(THEIRS), batch([0, 1, 2]), NONE)))
        slope = (ends[0] - ends[1]) / 2e-2
        assert float(mine.class_logits.grad[place]) == pytest.approx(slope, abs=2e-3)


def test_the_teachers_columns_are_found_by_name():
    turned = [[row[2], row[0], row[1]] for row in THEIRS]
    for kind in (ClassLogits(), ClassLabels(labels_from="teacher")):
        plain = kind.bound(shape(*"abc"), shape(*"abc"))
        other = kind.bound(shape(*"abc"), shape(*"cab"))
        one = plain.total(said(MINE), said(THEIRS), batch([0, 1, 2]), NONE)
        two = other.total(said(MINE), said(turned), batch([0, 1, 2]), NONE)
        assert float(one) == float(two)


def test_class_labels_leave_out_what_has_none():
    found = ClassLabels().total(said(MINE), Activations(), batch([2, UNLABELED, 0]), NONE)
    expected = -math.log(softmax(MINE[0])[2]) - math.log(softmax(MINE[2])[0])
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert ClassLabels().count(batch([2, UNLABELED, 0])) == 2
    nothing = batch([UNLABELED] * 3)
    assert ClassLabels().count(nothing) == 0
    mine = said(MINE)
    mine.class_logits.requires_grad_(True)
    ClassLabels().total(mine, Activations(), nothing, NONE).backward()
    assert not mine.class_logits.grad.any()


def test_the_teachers_choice_is_learned_for_every_row():
    objective = ClassLabels(labels_from="teacher")
    found = objective.total(said(MINE), said(THEIRS), batch([UNLABELED] * 3), NONE)
    expected = -sum(
        math.log(softmax(row)[other.index(max(other))])
        for row, other in zip(MINE, THEIRS, strict=True)
    )
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert objective.count(batch([UNLABELED] * 3)) == 3
    assert objective.teacher_needs().class_logits and not ClassLabels().teacher_needs().anything


def test_numbers_have_squared_errors():
    mine, theirs = [[1.0], [2.0], [3.0]], [[0.5], [2.5], [1.0]]
    rows = batch([UNLABELED] * 3, scores=[1.5, float("nan"), 2.0])
    assert float(ClassLogits().total(said(mine), said(theirs), rows, NONE)) == 0.25 + 0.25 + 4
    assert float(ClassLabels().total(said(mine), Activations(), rows, NONE)) == 0.25 + 1
    assert ClassLabels().count(rows) == 2


def sigmoid(logit, temperature=1.0):
    return 1 / (1 + math.exp(-logit / temperature))


def bernoulli(p, q):
    """The divergence of two probabilities that something holds."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_classes_that_do_not_exclude_one_another_diverge_each_alone(temperature):
    shapes = [replace(shape(*labels), multi_label=True) for labels in ("abc", "cab")]
    objective = ClassLogits(temperature=temperature).bound(*shapes)
    turned = [[row[2], row[0], row[1]] for row in THEIRS]
    mine = said(MINE)
    mine.class_logits.requires_grad_(True)
    total = objective.total(mine, said(turned), batch([UNLABELED] * 3), NONE)
    expected, slopes = 0.0, []
    for row, other in zip(MINE, THEIRS, strict=True):
        chances = [
            (sigmoid(a, temperature), sigmoid(b, temperature))
            for a, b in zip(row, other, strict=True)
        ]
        expected += temperature**2 * sum(bernoulli(p, q) for q, p in chances)
        slopes.append([temperature * (q - p) for q, p in chances])
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    total.backward()
    assert torch.allclose(mine.class_logits.grad, torch.tensor(slopes), atol=1e-6)
    assert objective.count(batch([UNLABELED] * 3)) == 3


def test_labels_that_hold_have_binary_cross_entropies():
    several = replace(shape(*"abc"), multi_label=True)
    nan = float("nan")
    held = torch.tensor([[1.0, 0.0, 1.0], [nan] * 3, [0.0, 0.0, 0.0]])
    rows = batch([UNLABELED] * 3)
    tokens = replace(rows.student, multi_hot=held)
    rows = Batch(tokens, tokens)
    gold = ClassLabels().bound(several, None)
    expected = 0.0
    for row, known in zip(MINE, held.tolist(), strict=True):
        for logit, holds in zip(row, known, strict=True):
            if holds == holds:
                expected -= math.log(sigmoid(logit) if holds else 1 - sigmoid(logit))
    total = gold.total(said(MINE), Activations(), rows, NONE)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert gold.count(rows) == 2
    parts = [rows.rows(0, 1), rows.rows(1, 3)]
    split = [
        gold.total(said(MINE[a:b]), Activations(), part, NONE)
        for part, (a, b) in zip(parts, ((0, 1), (1, 3)), strict=True)
    ]
    assert float(sum(split)) == pytest.approx(expected, rel=1e-5)
    assert sum(map(gold.count, parts)) == 2
    choice = ClassLabels(labels_from="teacher").bound(several, several)
    chosen = -sum(
        math.log(sigmoid(mine) if theirs > 0 else 1 - sigmoid(mine))
        for row, other in zip(MINE, THEIRS, strict=True)
        for mine, theirs in zip(row, other, strict=True)
    )
    found = choice.total(said(MINE), said(THEIRS), rows, NONE)
    assert float(found) == pytest.approx(chosen, rel=1e-5) and choice.count(rows) == 3


def test_one_head_of_several_labels_and_one_of_one_do_not_match():
    several = replace(shape(*"abc"), multi_label=True)
    for objective in (ClassLogits(), ClassLabels(labels_from="teacher")):
        for pair in ((several, shape(*"abc")), (shape(*"abc"), several)):
            [(_, message)] = objective.problems_with(*pair)
            assert "alone is a multi-label head" in message
        one = replace(shape("a"), multi_label=True)
        assert objective.problems_with(one, one) == []


@pytest.mark.parametrize(
    ("objective", "student", "teacher", "said_of_it"),
    [
        (ClassLogits(), (), ("a", "b"), "data.task"),
        (ClassLogits(), ("a", "b"), (), "limbeck finetune"),
        (ClassLogits(), ("a", "b"), ("a", "c"), "'c'"),
        (ClassLogits(temperature=2.0), ("score",), ("score",), "gives a number"),
        (ClassLabels(), (), ("a", "b"), "data.task"),
        (ClassLabels(labels_from="teacher"), ("a", "b"), None, "there is none"),
        (ClassLabels(labels_from="teacher"), ("score",), ("score",), "class_logits"),
    ],
)
def test_what_cannot_be_learned(objective, student, teacher, said_of_it):
    other = None if teacher is None else shape(*teacher)
    [(_, message)] = objective.problems_with(shape(*student), other)
    assert said_of_it in message
