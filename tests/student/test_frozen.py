"""Frozen weights in 16 bits, and once for two models: the same numbers, fewer bytes."""

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model

from limbeck.models.families import ARCHITECTURES
from limbeck.student.frozen import hold_frozen, share_frozen, widen_frozen
from limbeck.student.low_rank import Rank, chosen_layers, factorize_layers

DECODERS = [name for name in FAMILIES if ARCHITECTURES[name].causal]


def exact_in_16_bits(family, seed=1):
    model = make_model(family, seed=seed)
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return model.eval()


def trained_parts(model, family):
    paths = chosen_layers(model, ARCHITECTURES[family], "feed_forward")
    factorize_layers(model, paths, Rank(parameter_ratio=0.5))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".down." in name or ".up." in name)
    return model


def loss_and_gradients(model):
    tokens = make_batch().student
    found = model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long())
    value = found[0].square().sum()
    model.zero_grad(set_to_none=True)
    value.backward()
    return value.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_learned_is_the_same(family, autocast):
    models = [trained_parts(exact_in_16_bits(family), family) for _ in range(2)]
    hold_frozen(models[1], "auto")
    kept = sum(p.nbytes for p in models[0].parameters())
    assert sum(p.nbytes for p in models[1].parameters()) < kept
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        (one, plain), (other, held) = map(loss_and_gradients, models)
    assert plain.keys() == held.keys()
    torch.testing.assert_close(other, one, rtol=1e-6, atol=0)
    for name in plain:
        torch.testing.assert_close(held[name], plain[name], rtol=1e-4, atol=1e-5)
    widen_frozen(models[1])
    for (name, before), after in zip(
        models[0].named_parameters(), models[1].parameters(), strict=True
    ):
        assert after.dtype == torch.float32 and torch.equal(before, after), name
    assert [type(m) for m in models[0].modules()] == [type(m) for m in models[1].modules()]


def test_weights_that_would_be_rounded_stay_unless_that_is_wanted():
    family = DECODERS[0]
    models = [trained_parts(make_model(family, seed=1), family) for _ in range(3)]
    for model, dtype in zip(models, ("auto", "bfloat16", "float32"), strict=True):
        hold_frozen(model, dtype)
    kinds = [{p.dtype for p in model.parameters() if p.dim() == 2} for model in models]
    assert kinds == [{torch.float32}, {torch.float32, torch.bfloat16}, {torch.float32}]
    rounded = [p for p in models[1].parameters() if p.dtype == torch.bfloat16]
    assert rounded and not any(p.requires_grad for p in rounded)


@pytest.mark.parametrize("family", DECODERS)
def test_a_teacher_reads_what_the_student_has_too(family):
    teacher = exact_in_16_bits(family)
    student = trained_parts(exact_in_16_bits(family), family)
    tokens = make_batch().student
    before = teacher(input_ids=tokens.input_ids)[0]
    hold_frozen(student, "auto")
    hold_frozen(teacher.requires_grad_(False), "auto")
    share_frozen(student, teacher)
    matrices = [p for p in student.parameters() if p.dim() == 2 and not p.requires_grad]
    assert {p.data_ptr() for p in matrices} <= {p.data_ptr() for p in teacher.parameters()}
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)  # learning changes nothing of the teacher
    torch.testing.assert_close(teacher(input_ids=tokens.input_ids)[0], before, rtol=0, atol=1e-6)


def test_other_weights_are_not_shared():
    family = DECODERS[0]
    teacher, student = make_model(family, seed=2), trained_parts(make_model(family, seed=1), family)
    own = {name: p.clone() for name, p in teacher.named_parameters()}
    matrices = {p.data_ptr() for p in student.parameters() if p.dim() == 2}
    share_frozen(student, teacher)
    assert not matrices & {p.data_ptr() for p in teacher.parameters()}
    assert all(torch.equal(p, own[name]) for name, p in teacher.named_parameters())
