"""Objectives as the loss of a loop of one's own: the same sums as the house's own loop."""

import pytest
import torch
from conftest import make_model

from limbeck.batch import Batch
from limbeck.errors import ObjectiveError
from limbeck.models.capture import capture
from limbeck.models.families.lookup import architecture_of
from limbeck.objectives import (
    DistillationLoss,
    HiddenStates,
    Labels,
    Logits,
    Relations,
    tokens_of,
)
from limbeck.objectives.contract import joint_needs


@pytest.fixture(params=["bert", "llama"])
def models(request):
    family = request.param
    return make_model(family, layers=2, hidden=16, seed=1), make_model(family, layers=3, hidden=24)


def inputs_of(rows=3, length=10):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 200, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 7:] = 0
    labels = ids.masked_fill(torch.rand(ids.shape, generator=generator) < 0.5, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels.masked_fill(mask == 0, -100)}


OBJECTIVES = {"labels": Labels(), "logits": Logits(), "states": HiddenStates(), "all": Relations()}


def test_totals_are_those_of_the_objectives(models):
    student, teacher = models
    loss = DistillationLoss(student, teacher, OBJECTIVES, seed=3)
    found = loss.totals(inputs_of())
    parts = architecture_of(student.config)
    tokens = tokens_of(inputs_of(), causal=parts.causal)
    bound = loss.objectives
    mine = capture(student, parts, tokens, joint_needs(o.student_needs() for o in bound.values()))
    theirs = capture(teacher, parts, tokens, joint_needs(o.teacher_needs() for o in bound.values()))
    for (name, objective), maps in zip(bound.items(), loss.maps, strict=True):
        expected = objective.total(mine, theirs, Batch(tokens, tokens), maps)
        assert found[name].loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert found[name].items == objective.count(Batch(tokens, tokens)) > 0


def test_labels_are_those_of_transformers(models):
    """The mean over what is predicted, shifted where a decoder reads."""
    student, _ = models
    ours = DistillationLoss(student, None, {"labels": Labels()})(inputs_of())
    assert ours.item() == pytest.approx(student(**inputs_of()).loss.item(), rel=1e-5)


def test_sums_do_not_depend_on_how_a_step_is_split(models):
    loss = DistillationLoss(*models, OBJECTIVES)
    whole, inputs = loss.totals(inputs_of()), inputs_of()
    halves = [
        loss.totals({name: tensor[rows] for name, tensor in inputs.items()})
        for rows in (slice(0, 1), slice(1, 3))
    ]
    for name, total in whole.items():
        assert sum(half[name].items for half in halves) == total.items
        summed = sum(half[name].loss.item() for half in halves)
        assert summed == pytest.approx(total.loss.item(), rel=1e-4)


def test_the_student_and_the_maps_alone_learn(models):
    student, teacher = models
    loss = DistillationLoss(student, teacher, OBJECTIVES, weights={"states": 0.5})
    assert len(list(loss.parameters())) == 1  # the map of the hidden states
    teacher.requires_grad_(True)
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    loss(inputs_of()).backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert next(loss.parameters()).grad.abs().sum() > 0
    assert student.get_input_embeddings().weight.grad.abs().sum() > 0
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())


def test_what_cannot_be_compared_is_said_at_once(models):
    student, _ = models
    wrong = {"states": HiddenStates(layers={0: 7}), "relations": Relations(heads=5)}
    with pytest.raises(ObjectiveError, match=r"states\.layers .*; relations\.heads is 5"):
        DistillationLoss(student, models[1], wrong)
    with pytest.raises(ObjectiveError, match="needs a teacher"):
        DistillationLoss(student, None, {"logits": Logits()})
    with pytest.raises(ObjectiveError, match="'lables' has a weight and is no objective"):
        DistillationLoss(student, None, {"labels": Labels()}, weights={"lables": 2.0})
