"""A run whose layers and losses are compiled learns the same."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import same_run
from jaxtyping import config
from torch._dynamo.utils import counters

import limbeck
from limbeck.models import compiled
from limbeck.run import train


@pytest.fixture
def by_tracing(monkeypatch):
    """What is compiled is traced and not built, and nothing checks shapes."""
    torch._dynamo.reset()
    counters.clear()
    compiled._made_of.cache_clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")  # torch's compiler would stop at its own
def test_a_compiled_run_learns_the_same(raw_recipe, tmp_path, by_tracing):
    raw_recipe["training"] = {"precision": "float32", "device": "cpu"}
    limbeck.distill(raw_recipe, tmp_path / "plain")
    assert counters["stats"]["unique_graphs"] == 0
    raw_recipe["training"]["torch_compile"] = True
    limbeck.distill(raw_recipe, tmp_path / "compiled")
    assert counters["stats"]["unique_graphs"] > 0
    same_run(tmp_path / "compiled", tmp_path / "plain", rounding=1e-4)


@pytest.mark.parametrize(
    ("asked", "device", "steps", "shards", "wanted"),
    [
        ("auto", "cuda", 1000, False, True),
        ("auto", "cuda", 999, False, False),
        ("auto", "cuda", 1000, True, False),
        ("auto", "cpu", 5000, False, False),
        (True, "cpu", 1, False, True),
        (False, "cuda", 5000, False, False),
    ],
)
def test_which_stages_are_compiled(asked, device, steps, shards, wanted, monkeypatch):
    monkeypatch.setattr(train, "has_triton", lambda: True)
    monkeypatch.setattr(train, "keeps_shards", lambda accelerator: shards)
    recipe = SimpleNamespace(training=SimpleNamespace(torch_compile=asked))
    setup = SimpleNamespace(recipe=recipe, device=torch.device(device))
    assert train._compiles(setup, SimpleNamespace(steps=steps), None) is wanted
