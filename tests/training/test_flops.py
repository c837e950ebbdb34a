"""Operations by formula are those that torch counts in real forwards and backwards."""

from dataclasses import replace

import pytest
import torch
from conftest import make_batch, make_model
from torch.utils.flop_counter import FlopCounterMode

from limbeck.activations import Activations, Needs
from limbeck.models.capture import capture
from limbeck.models.families import ARCHITECTURES
from limbeck.models.low_rank_layers import LowRankLinear, add_low_rank_layers
from limbeck.student.recompute import recompute_layers
from limbeck.system.matrix_rate import product_rate
from limbeck.training.flops import Flops, flops_of

LAYER = frozenset({1})
NEEDS = {
    "early states": Needs(hidden=LAYER, embeddings=True),
    "projections": Needs(queries=LAYER, keys=LAYER, values=LAYER),
    "queries": Needs(queries=LAYER),
    "predictions": Needs(predictions=True),
    "states and projections": Needs(hidden=LAYER, keys=frozenset({2}), values=frozenset({2})),
}
ROTATION = 1e-3  # rotary positions multiply small matrices, too


def eager(family, **options):
    model = make_model(family, **options)
    model.set_attn_implementation("eager")
    return model


def counted(model, family, tokens, needs):
    """What torch counts in a forward and, where weights are trained, a backward from all of it."""
    with FlopCounterMode(display=False) as counter:
        found = capture(model, ARCHITECTURES[family], tokens, needs)
        tensors = list(tensors_of(found))
        if any(tensor.requires_grad for tensor in tensors):
            sum(tensor.sum() for tensor in tensors).backward()
    return counter.get_total_flops()


def tensors_of(found: Activations):
    for layers in (found.hidden, found.queries, found.keys, found.values):
        yield from layers.values()
    if found.predictions is not None:
        yield found.predictions.logits()


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2", "modernbert"])
@pytest.mark.parametrize("needs", NEEDS.values(), ids=NEEDS)
@pytest.mark.parametrize("trained", [True, False], ids=["student", "teacher"])
def test_operations_are_those_that_torch_counts(family, needs, trained):
    if family in ("gpt2", "modernbert") and needs is NEEDS["queries"]:
        return  # one module returns queries, keys and values
    model = eager(family).requires_grad_(trained)
    tokens = make_batch(padded=False).student
    found = flops_of(model, ARCHITECTURES[family], needs).of(tokens)
    assert found == pytest.approx(counted(model, family, tokens, needs), rel=ROTATION)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "all weights"])
@pytest.mark.parametrize("needs", [NEEDS["projections"], NEEDS["predictions"]], ids=str)
def test_low_rank_layers(alone, needs):
    model = eager("bert")
    paths = ("attention.self.query", "attention.self.value", "intermediate.dense")
    add_low_rank_layers(model, {f"encoder.layer.{n}.{p}": 4 for n in range(3) for p in paths})
    if alone:
        model.requires_grad_(False)
        for module in model.modules():
            module.requires_grad_(True) if isinstance(module, LowRankLinear) else None
    tokens = make_batch(padded=False).student
    found = flops_of(model, ARCHITECTURES["bert"], needs).of(tokens)
    assert found == pytest.approx(counted(model, "bert", tokens, needs), rel=ROTATION)


def test_layers_that_are_computed_again_do_not_count():
    model, tokens, needs = (
        eager("bert").train(),
        make_batch(padded=False).student,
        NEEDS["predictions"],
    )
    plain = flops_of(model, ARCHITECTURES["bert"], needs).of(tokens)
    recompute_layers(model, ARCHITECTURES["bert"])
    assert flops_of(model, ARCHITECTURES["bert"], needs).of(tokens) == plain
    assert counted(model, "bert", tokens, needs) > 1.2 * plain


def test_padding_does_not_count_and_documents_attend_to_themselves():
    each = Flops(of_token=1000, of_pair=10, of_prediction=100)
    padded = make_batch(rows=3, length=12).student  # 12, 10 and 8 tokens
    predicted = int(padded.predicted.sum())
    assert each.of(padded) == 30 * 1000 + (144 + 100 + 64) * 10 + predicted * 100
    whole = make_batch(rows=1, length=12, padded=False).student
    apart = replace(whole, positions=torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6]]))
    predicted = int(whole.predicted.sum())
    assert each.of(apart) == 12 * 1000 + (25 + 49) * 10 + predicted * 100


def test_the_rate_is_that_of_a_product():
    device = torch.device("cpu")
    rate = product_rate(device, torch.float32)
    assert 1e8 < rate < 1e15 and rate == product_rate(device, torch.float32)  # measured once
