"""Compiled layers and losses give what plain ones give, and only while a model is captured."""

import copy
import os
from functools import partial

import pytest
import torch
from conftest import FAMILIES, all_needs, make_batch, make_model
from jaxtyping import config
from torch._dynamo.utils import counters

from limbeck.activations import Activations, Needs, Predictions
from limbeck.models import compiled as module
from limbeck.models.capture import capture_tensors
from limbeck.models.compiled import compiled_layers, compiles, compiling
from limbeck.models.families import ARCHITECTURES
from limbeck.models.hooks import runs_of_layers
from limbeck.objectives import OBJECTIVES
from limbeck.student.projections import Projections

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's compiler would stop at its own


@pytest.fixture(autouse=True)
def fresh():
    """Nothing is compiled yet; nothing checks shapes, which the compiler would have to trace."""
    torch._dynamo.reset()
    counters.clear()
    module._made_of.cache_clear()
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
    torch._dynamo.reset()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def captured(model, family, batch, needs, *, on):
    with compiling(on):
        return capture_tensors(model, ARCHITECTURES[family], batch.student, needs.tensors())


def alike(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5)


# Layers of other families are of these kinds. LIMBECK_ALL_FAMILIES compares all: four minutes.
KINDS = ["albert", "bert", "gpt2", "llama", "modernbert", "mpnet"]


@pytest.mark.parametrize("family", FAMILIES if os.environ.get("LIMBECK_ALL_FAMILIES") else KINDS)
def test_what_is_captured_is_the_same(family, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    model, batch, needs = make_model(family), make_batch(), all_needs(family)
    expected = captured(model, family, batch, needs, on=False)
    assert graphs() == 0
    found = captured(model, family, batch, needs, on=True)
    alike(found, expected)
    if not ARCHITECTURES[family].shared_layers:  # there the one module has hooks inside
        assert graphs() > 0
    full = make_batch(length=9, padded=False)
    again = captured(model, family, full, needs, on=True)
    alike(again, captured(model, family, full, needs, on=False))


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_gradients_of_compiled_layers_are_the_same(family):
    model, batch = make_model(family), make_batch()
    needs = Needs(predictions=True, hidden=frozenset({1}))

    def gradients(on):
        found = captured(model, family, batch, needs, on=on)
        total = sum(tensor.square().sum() for tensor in found.values())
        learned = list(model.base_model.parameters())
        return torch.autograd.grad(total, learned, allow_unused=True)

    expected, found = gradients(False), gradients(True)
    assert graphs() > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_a_copy_reads_its_own_weights():
    model, batch, needs = make_model("bert"), make_batch(), Needs(hidden=frozenset({2}))
    captured(model, "bert", batch, needs, on=True)
    other = copy.deepcopy(model)
    for parameter in other.base_model.encoder.parameters():
        parameter.data.mul_(1.5)
    expected = captured(other, "bert", batch, needs, on=False)
    alike(captured(other, "bert", batch, needs, on=True), expected)


def test_forwards_are_put_back_and_those_of_others_are_left():
    model = make_model("bert")
    layers = [layer for layer, _ in runs_of_layers(model, ARCHITECTURES["bert"])]
    theirs = layers[1].forward = partial(type(layers[1]).forward, layers[1])
    with compiling(), compiled_layers(layers, {2}):
        assert [("forward" in vars(layer)) for layer in layers] == [True, True, False]
        assert layers[1].forward is theirs
    assert [("forward" in vars(layer)) for layer in layers] == [False, True, False]
    with compiled_layers(layers, set()):  # nobody compiles
        assert "forward" not in vars(layers[0])
    assert not compiles()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("labels", {}),
        ("logits", {}),
        ("logits", {"divergence": "jensen_shannon", "temperature": 2.0}),
        ("logits", {"signal": "top_k", "top_k": 8}),
    ],
    ids=str,
)
def test_losses_over_the_vocabulary_are_the_same(name, options):
    def found(on, rows):
        torch.manual_seed(0)
        batch = make_batch(rows=rows)
        places = int(batch.student.predicted.sum())
        features, weight, bias = (
            torch.randn(*size, requires_grad=True) for size in ((places, 12), (200, 12), (200,))
        )
        student = Predictions(features, weight, bias)
        teacher = Predictions(torch.randn(places, 16), torch.randn(200, 16), None)
        sides = (Activations(predictions=student), Activations(predictions=teacher))
        with compiling(on):
            total = OBJECTIVES[name](**options).total(*sides, batch, Projections({}, seed=0))
        return total, *torch.autograd.grad(total, [features, weight, bias])

    made = []
    for rows in (4, 6, 8):
        for mine, theirs in zip(found(True, rows), found(False, rows), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
        made.append(graphs())
    assert 0 < made[1] == made[2]  # for one number of rows, and then for any


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch):
    def fails(*given, **others):
        raise RuntimeError("no such compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=fails))
    twice = module.compiled(lambda tensor: tensor * 2)
    with compiling():
        assert twice(torch.ones(2)).tolist() == [2, 2]
