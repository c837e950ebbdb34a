"""Low-rank layers: what is lost, what is kept, and folders that load like any other."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import make_batch, make_model

import limbeck
from limbeck.errors import ModelError, StudentError
from limbeck.evaluation.cost import model_size
from limbeck.models.auto_classes import body_class, whole_class
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_body, load_model
from limbeck.models.low_rank_layers import LowRankLinear, low_rank_ranks, sizes_of
from limbeck.models.low_rank_loading import QUANT_METHOD
from limbeck.models.modules import submodule
from limbeck.student.adapters import add_adapters, merge_adapters, train_only_adapters
from limbeck.student.low_rank import (
    Rank,
    break_even,
    chosen_layers,
    factorize_layers,
    merge_factors,
)

FAMILIES = sorted(ARCHITECTURES)


def logits(model, batch):
    """At real tokens; last hidden states of a family without a vocabulary head."""
    tokens = batch.student
    with torch.no_grad():
        out = model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long())
    return (out.logits if "logits" in out else out.last_hidden_state)[tokens.mask]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("which", ["feed_forward", "attention", "all"])
def test_at_full_energy_nothing_changes_where_a_layer_is_of_low_rank(family, which):
    model = make_model(family)
    paths = chosen_layers(model, ARCHITECTURES[family], which)
    layers = submodule(model.base_model, ARCHITECTURES[family].layers).children()
    attending = [layer for layer in layers if "linear_attn" not in dict(layer.named_children())]
    assert len(paths) >= 2 * len(attending)
    with torch.no_grad():
        for path in paths:
            layer = model.base_model.get_submodule(path)
            if layer.bias is not None:
                layer.bias.uniform_(-0.3, 0.3)  # which a new model has at 0
            weight = layer.weight
            up, values, down = torch.linalg.svd(weight, full_matrices=False)
            weight.copy_(up[:, :4] * values[:4] @ down[:4])
    batch = make_batch()
    before = logits(model, batch)
    count = sum(p.numel() for p in model.parameters())
    ranks = factorize_layers(model, paths, Rank(energy=0.99999999))
    assert set(ranks) == set(paths) and max(ranks.values()) <= 4
    assert sum(p.numel() for p in model.parameters()) < count
    torch.testing.assert_close(logits(model, batch), before, rtol=1e-3, atol=1e-4)
    merge_factors(model, ARCHITECTURES[family])
    assert not any(isinstance(m, LowRankLinear) for m in model.modules())
    assert low_rank_ranks(model.config) == {}
    torch.testing.assert_close(logits(model, batch), before, rtol=1e-3, atol=1e-4)


def entering(model, layer, batch):
    entered = []
    handle = layer.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    logits(model, batch)
    handle.remove()
    return entered[0][batch.student.mask]


@pytest.mark.parametrize("whitened", [False, True])
def test_every_direction_is_as_long_in_both_factors(whitened):
    model = make_model("llama")
    paths = chosen_layers(model, ARCHITECTURES["llama"], "feed_forward")
    text = [make_batch(rows=8, length=20).student] if whitened else []
    factorize_layers(model, paths, Rank(number=6), calibration=text)
    for path in paths:
        layer = model.base_model.get_submodule(path)
        up, down = layer.up.weight.detach().norm(dim=0), layer.down.weight.detach().norm(dim=1)
        torch.testing.assert_close(up, down, rtol=1e-4, atol=1e-6)
        assert float(up.min()) > 0


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_whitened_the_lost_output_is_what_the_dropped_values_say(family):
    batch = make_batch(rows=8, length=20)
    lost = {}
    for whitened in (False, True):
        model = make_model(family)
        (path, *_) = chosen_layers(model, ARCHITECTURES[family], "feed_forward")
        layer = model.base_model.get_submodule(path)
        x = entering(model, layer, batch)
        with torch.no_grad():
            right = layer(x)
        weight = layer.weight.double()
        weight = weight.mT if sizes_of(layer) == tuple(weight.shape) else weight
        weight = weight if weight.shape[1] == x.shape[1] else weight.mT
        halves = [batch.student.rows(0, 3), batch.student.rows(3, 8)]
        factorize_layers(model, [path], Rank(number=5), calibration=halves if whitened else [])
        with torch.no_grad():
            lost[whitened] = float((model.base_model.get_submodule(path)(x) - right).norm())
        if whitened:
            moments = x.detach().double().mT @ x.detach().double()
            damping = 1e-4 * moments.diagonal().mean() * torch.eye(len(moments))
            root = torch.linalg.cholesky(moments + damping)
            dropped = torch.linalg.svdvals(weight.detach() @ root)[5:].norm()
            assert lost[True] == pytest.approx(float(dropped), rel=0.02)
    assert lost[True] < lost[False]


def test_ranks_by_number_energy_and_parameter_ratio():
    values = torch.tensor([3.0, 2.0, 1.0])
    assert Rank(number=2).of(values, 10, 10) == 2
    assert [Rank(energy=e).of(values, 10, 10) for e in (0.5, 0.7, 0.95)] == [1, 2, 3]
    # A share that is kept exactly needs no further value, and no layer has more than it has.
    assert [Rank(energy=e).of(values, 10, 10) for e in (9 / 14, 13 / 14, 1.0)] == [1, 2, 3]
    assert Rank(parameter_ratio=0.5).of(values, 100, 100) == 25
    assert Rank(parameter_ratio=0.001).of(values, 100, 100) == 1
    for inputs, outputs in ((10, 10), (256, 1024), (7, 3)):
        most = break_even(inputs, outputs)
        assert most * (inputs + outputs) < inputs * outputs
        assert (most + 1) * (inputs + outputs) >= inputs * outputs


def test_layers_by_the_ends_of_their_paths():
    model = make_model("llama")
    architecture = ARCHITECTURES["llama"]
    assert chosen_layers(model, architecture, ["mlp.up_proj"]) == [
        f"layers.{n}.mlp.up_proj" for n in range(3)
    ]
    assert len(chosen_layers(model, architecture, ["q_proj", "layers.1.mlp.down_proj"])) == 4
    with pytest.raises(StudentError, match=r"ends in proj; there are .*mlp\.up_proj"):
        chosen_layers(model, architecture, ["proj"])
    feed_forward = chosen_layers(model, architecture, "feed_forward")
    with pytest.raises(StudentError, match="saves anything is 15"):
        factorize_layers(model, feed_forward, Rank(number=16))
    assert set(factorize_layers(model, feed_forward, Rank(number=15)).values()) == {15}


def test_layers_that_read_nothing_on_the_text_are_whitened_all_the_same():
    model = make_model("llama")
    mlp = model.base_model.layers[1].mlp
    torch.nn.init.zeros_(mlp.up_proj.weight)
    factorize_layers(
        model, ["layers.1.mlp.down_proj"], Rank(number=6), calibration=[make_batch().student]
    )
    assert all(torch.isfinite(weight).all() for weight in mlp.down_proj.parameters())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "none of them is given; give one of the three"),
        ({"number": 4, "energy": 0.5}, "number, energy is given; give one of the three"),
        ({"number": 0}, "the rank is 0; give a whole number from 1 on"),
        ({"energy": 0.0}, "the energy of a rank is 0.0; give more than 0, at most 1"),
        ({"parameter_ratio": 2.0}, "the parameter_ratio of a rank is 2.0"),
        ({"energy": float("nan")}, "the energy of a rank is nan"),
    ],
)
def test_ranks_that_mean_nothing_are_refused(given, said):
    with pytest.raises(StudentError, match=said):
        Rank(**given)


def test_layers_that_there_are_not():
    model = make_model("llama")
    with pytest.raises(StudentError, match="'ffn' is no group of layers; give feed_forward, att"):
        chosen_layers(model, ARCHITECTURES["llama"], "ffn")
    unknown = replace(ARCHITECTURES["llama"], axes=())
    with pytest.raises(StudentError, match=r"group attention; give a list .*: mlp\.down_proj, mlp"):
        chosen_layers(model, unknown, "attention")
    with pytest.raises(StudentError, match="no layer is named that could be low-rank"):
        factorize_layers(model, [], Rank(number=2))


def test_layers_that_became_low_rank_at_different_times_are_all_saved(tmp_path):
    model, batch = make_model("llama", hidden=48).eval(), make_batch()
    for which, rank in (("feed_forward", 8), ("attention", 6)):
        factorize_layers(model, chosen_layers(model, ARCHITECTURES["llama"], which), Rank(rank))
    model.save_pretrained(tmp_path)
    assert len(low_rank_ranks(model.config)) == 7 * 3
    again = whole_class(ARCHITECTURES["llama"]).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again, batch), logits(model, batch))


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_low_rank_layers_have_the_precision_of_the_model(family):
    model, batch = make_model(family, hidden=48).eval().bfloat16(), make_batch()
    factorize_layers(model, chosen_layers(model, ARCHITECTURES[family], "all"), Rank(number=8))
    before = logits(model, batch)
    merge_factors(model, ARCHITECTURES[family])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(logits(model, batch), before, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_low_rank_folder_loads_again_and_is_smaller(family, tmp_path):
    kind = whole_class(ARCHITECTURES[family])
    model = make_model(family)
    model.save_pretrained(tmp_path / "dense")
    architecture = ARCHITECTURES[family]
    factorize_layers(model, chosen_layers(model, architecture, "all"), Rank(parameter_ratio=0.4))
    model.save_pretrained(tmp_path / "low_rank")
    batch = make_batch()
    before = logits(model, batch)
    again = kind.from_pretrained(tmp_path / "low_rank")
    torch.testing.assert_close(logits(again, batch), before)
    again.float()  # forbidden to models that are really quantized
    again.save_pretrained(tmp_path / "again")
    headed = True if architecture.head else None
    third = load_model(str(tmp_path / "again"), architecture=architecture, with_head=headed)
    torch.testing.assert_close(logits(third, batch), before)
    assert low_rank_ranks(third.config) == low_rank_ranks(model.config) != {}
    own = body_class(family).from_pretrained(tmp_path / "again")
    for body in (own, load_body(str(tmp_path / "again"))):
        assert any(isinstance(m, LowRankLinear) for m in body.modules())
    sizes = [model_size(str(tmp_path / name)) for name in ("low_rank", "dense")]
    assert sizes[0]["megabytes"] < sizes[1]["megabytes"]
    assert sizes[0]["parameters"] < sizes[1]["parameters"]
    used = model if architecture.causal else model.base_model
    pooler = sum(p.numel() for n, p in used.named_parameters() if n.startswith("pooler"))
    assert sizes[0]["parameters"] == sum(p.numel() for p in used.parameters()) - pooler


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ({"layers.9.mlp.up_proj": 2}, "is a low-rank layer, but"),
        ({"layers.0.mlp.up_proj": 0}, "rank 0"),
    ],
)
def test_a_configuration_with_wrong_ranks_is_refused(tmp_path, ranks, message):
    model = make_model("llama")
    factorize_layers(
        model, chosen_layers(model, ARCHITECTURES["llama"], "all"), Rank(parameter_ratio=0.4)
    )
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["ranks"] = ranks
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        load_body(str(tmp_path))


def test_load_gives_model_and_tokenizer(teacher_folder):
    model, tokenizer = limbeck.load(str(teacher_folder))
    assert not model.training and model.config.vocab_size == len(tokenizer)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = limbeck.nothing


@pytest.mark.parametrize("family", FAMILIES)
def test_additions_change_nothing_before_training_and_are_merged_at_the_end(family, tmp_path):
    model = make_model(family)
    batch = make_batch()
    before = logits(model, batch)
    names = [name for name, _ in model.named_parameters()]
    paths = chosen_layers(model, ARCHITECTURES[family], "all")
    add_adapters(model, paths, rank=2, alpha=4, seed=0)
    assert torch.equal(logits(model, batch), before)
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(learning) == 2 * len(paths) and all("lora_" in name for name in learning)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    learned = logits(model, batch)
    assert not torch.allclose(learned, before)
    merge_adapters(model)
    merged = logits(model, batch)
    torch.testing.assert_close(merged, learned, rtol=1e-3, atol=1e-3)
    assert [name for name, _ in model.named_parameters()] == names
    model.save_pretrained(tmp_path)
    again = whole_class(ARCHITECTURES[family]).from_pretrained(tmp_path).eval()
    assert torch.equal(logits(again, batch), merged)


@pytest.mark.parametrize("before", [True, False])
def test_only_the_additions_are_trained(before):
    """By peft's own `set_adapter`, and by the names that peft gives to LoRA weights."""
    model = make_model("llama")
    paths = chosen_layers(model, ARCHITECTURES["llama"], "feed_forward")
    add_adapters(model, paths, rank=2, alpha=4, seed=0)
    model.requires_grad_(before)
    train_only_adapters(model)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert len(learning) == 2 * len(paths)


@pytest.mark.parametrize("ranks", [None, [3], {"a": "b"}])
def test_a_configuration_without_ranks(ranks):
    config = make_model("bert").config
    config.quantization_config = {"quant_method": QUANT_METHOD, "ranks": ranks}
    with pytest.raises(ModelError, match="needed is the rank of each layer by its path"):
        low_rank_ranks(config)
