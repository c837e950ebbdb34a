from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, all_needs, make_batch, make_model

from limbeck.activations import Needs
from limbeck.batch import Tokens
from limbeck.errors import ModelError
from limbeck.models.architecture import Architecture
from limbeck.models.capture import capture, capture_tensors
from limbeck.models.families import ARCHITECTURES
from limbeck.models.families.decoders import DECODERS
from limbeck.models.families.encoders import ENCODERS
from limbeck.models.families.lookup import architecture_of, architecture_of_type
from limbeck.models.hooks import runs_of_layers
from limbeck.models.modules import submodule
from limbeck.objectives.relations import repeat_heads
from limbeck.tokenization.batching import kept_apart


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_the_outputs_of_the_named_layers(family):
    model, tokens = make_model(family), make_batch().student
    full = model.base_model(
        input_ids=tokens.input_ids, attention_mask=tokens.mask.long(), output_hidden_states=True
    )
    found = capture(model, ARCHITECTURES[family], tokens, Needs(hidden=frozenset({0, 1})))
    assert found.hidden.keys() == {0, 1}
    for layer in (0, 1):  # hidden_states[0] is the embedding output, which we never count
        torch.testing.assert_close(found.hidden[layer], full.hidden_states[layer + 1])


# What follows the last layer, where layers have their norm before what they do.
AFTER_LAYERS: dict[str, list[str]] = {
    **{family: ["norm"] for family in FAMILIES if family not in ENCODERS},
    "eurobert": ["norm"],
    "modernbert": ["final_norm"],
    "gpt2": ["ln_f"],
    "gpt_neox": ["final_layer_norm"],
    "bloom": ["ln_f"],
    "falcon": ["ln_f"],
    "opt": ["decoder.final_layer_norm", "decoder.project_out"],
    "t5": ["encoder.final_layer_norm"],
    "mt5": ["encoder.final_layer_norm"],
    "umt5": ["encoder.final_layer_norm"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_hidden_state_is_that_before_the_final_norm(family):
    model, tokens, architecture = make_model(family), make_batch().student, ARCHITECTURES[family]
    found = capture(model, architecture, tokens, Needs(hidden=frozenset({2}))).hidden[2]
    for path in AFTER_LAYERS.get(family, []):
        module = submodule(model.base_model, path)
        with torch.no_grad():  # so that a norm is seen where it began as doing nothing
            module.weight += torch.linspace(0.5, 1.5, module.weight.shape[-1])
        assert module(found).shape != found.shape or not torch.allclose(found, module(found))
        found = module(found)
    states = model.base_model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long())
    torch.testing.assert_close(found, states.last_hidden_state)


def recomputed(model, layer, joined):
    """Queries, keys and values out of what the projections return, token by token."""
    kind = model.config.model_type
    if kind in ("gpt2", "modernbert"):
        return [joined[0][..., n * 24 : (n + 1) * 24] for n in range(3)]
    if kind == "phi3":
        return [joined[0][..., :24], joined[0][..., 24:36], joined[0][..., 36:]]
    if kind in ("gpt_neox", "bloom"):
        return [
            torch.cat([joined[0][..., 18 * h + 6 * n : 18 * h + 6 * n + 6] for h in range(4)], -1)
            for n in range(3)
        ]
    if kind == "falcon":  # two groups of two query heads, one key and one value
        starts = {0: (0, 6, 24, 30), 1: (12, 36), 2: (18, 42)}
        return [torch.cat([joined[0][..., s : s + 6] for s in starts[n]], -1) for n in range(3)]
    queries, keys, values = joined
    if kind == "qwen3_5_text":  # each query head is followed by its gate
        queries = torch.cat([queries[..., 12 * h : 12 * h + 6] for h in range(4)], -1)
    if kind == "olmo2":
        queries, keys = layer.self_attn.q_norm(queries), layer.self_attn.k_norm(keys)
    if kind in ("qwen3", "gemma3_text", "qwen3_5_text"):
        normed = [
            torch.cat([norm(part) for part in found.split(6, dim=-1)], -1)
            for norm, found in ((layer.self_attn.q_norm, queries), (layer.self_attn.k_norm, keys))
        ]
        queries, keys = normed
    return [queries, keys, values]


@pytest.mark.parametrize("family", FAMILIES)
def test_queries_keys_values_are_the_projections_of_the_layer_input(family):
    model, tokens, architecture = make_model(family), make_batch().student, ARCHITECTURES[family]
    number = 2  # of all families, the layer attends
    layer, run = runs_of_layers(model, architecture)[number]
    inputs = []
    projection = submodule(layer, architecture.query)
    handle = projection.register_forward_hook(lambda m, given, out: inputs.append(given[0]))
    with torch.no_grad():
        model.base_model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long())
    handle.remove()
    here = frozenset({number})
    found = capture(model, architecture, tokens, Needs(queries=here, keys=here, values=here))
    paths = dict.fromkeys((architecture.query, architecture.key, architecture.value))
    expected = recomputed(model, layer, [submodule(layer, path)(inputs[run]) for path in paths])
    for name, value in zip(("queries", "keys", "values"), expected, strict=True):
        torch.testing.assert_close(getattr(found, name)[number], value, rtol=1e-4, atol=1e-4)


def test_falcon_of_each_layout_gives_the_heads_that_it_attends_with():
    tokens, architecture = make_batch().student, ARCHITECTURES["falcon"]
    here = frozenset({1})
    for fields, groups in (
        ({"new_decoder_architecture": True, "num_kv_heads": 2}, 2),
        ({"new_decoder_architecture": False, "multi_query": True}, 1),
        ({"new_decoder_architecture": False, "multi_query": False, "num_kv_heads": 4}, 4),
    ):
        model = make_model("falcon", **fields)
        attention = model.transformer.h[1].self_attention
        joined = []
        attention.query_key_value.register_forward_hook(lambda m, g, o, to=joined: to.append(o))
        found = capture(model, architecture, tokens, Needs(queries=here, keys=here, values=here))
        queries, keys, values = (part.flatten(2) for part in attention._split_heads(joined[-1]))
        torch.testing.assert_close(found.queries[1], queries)
        assert found.keys[1].shape[-1] == 6 * groups
        for mine, theirs in ((found.keys[1], keys), (found.values[1], values)):
            torch.testing.assert_close(repeat_heads(mine, theirs.shape[-1], 6), theirs)


def test_the_other_head_of_deberta_gives_the_models_logits():
    model, tokens = make_model("deberta-v2", legacy=False), make_batch().student
    architecture = architecture_of(model.config)
    assert architecture.output_bias
    with torch.no_grad():
        model.lm_predictions.lm_head.bias.copy_(torch.linspace(-1, 1, 200))
    full = model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long()).logits
    found = capture(model, architecture, tokens, Needs(predictions=True))
    torch.testing.assert_close(found.predictions.logits(), full[tokens.predicted])


def test_a_layer_without_attention_has_hidden_states_and_is_named_for_its_queries():
    model, tokens = make_model("qwen3_5_text"), make_batch().student
    architecture, here = ARCHITECTURES["qwen3_5_text"], frozenset({1})
    assert capture(model, architecture, tokens, Needs(hidden=here)).hidden[1].shape[-1] == 24
    with pytest.raises(ModelError, match="layer 1 .* has no queries, keys and values"):
        capture(model, architecture, tokens, Needs(queries=here))


@pytest.mark.parametrize("family", [f for f in FAMILIES if ARCHITECTURES[f].head])
def test_logits_are_the_full_models_at_the_predicted_positions(family):
    model, tokens = make_model(family), make_batch().student
    full = model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long()).logits
    found = capture(model, ARCHITECTURES[family], tokens, Needs(predictions=True))
    torch.testing.assert_close(found.predictions.logits(), full[tokens.predicted])


# transformers' own forward of OPT fails with such a configuration.
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "opt"])
def test_a_model_whose_configuration_wants_tuples_is_captured_alike(family):
    model, tokens = make_model(family), make_batch().student
    wanted = all_needs(family).tensors()
    found = capture_tensors(model, ARCHITECTURES[family], tokens, wanted)
    model.config.return_dict, model.config.output_hidden_states = False, True
    again = capture_tensors(model, ARCHITECTURES[family], tokens, wanted)
    assert all(torch.equal(found[name], again[name]) for name in wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_forward_stops_after_the_last_needed_tensor(family):
    model, architecture = make_model(family), ARCHITECTURES[family]
    ran = []
    layers = list(submodule(model.base_model, architecture.layers).children())
    for layer in layers:
        layer.register_forward_pre_hook(lambda m, given: ran.append(1))
    number = 0 if family == "qwen3_5_text" else 1
    capture(model, architecture, make_batch().student, Needs(values=frozenset({number})))
    assert len(ran) == number + 1
    found = capture(model, architecture, make_batch().student, Needs())
    assert len(ran) == number + 1
    assert found.hidden == {}


def test_gradients_flow_through_a_forward_that_stopped_early():
    model = make_model()
    found = capture(
        model, ARCHITECTURES["bert"], make_batch().student, Needs(queries=frozenset({1}))
    )
    found.queries[1].sum().backward()
    layers = model.bert.encoder.layer
    assert layers[0].intermediate.dense.weight.grad is not None
    assert layers[1].intermediate.dense.weight.grad is None


def test_layers_count_from_zero_and_a_wrong_one_is_named():
    with pytest.raises(ModelError, match="layer 3 .* 3 layers: 0 to 2"):
        capture(
            make_model(), ARCHITECTURES["bert"], make_batch().student, Needs(hidden=frozenset({3}))
        )


def test_a_model_without_head_says_how_to_get_one():
    with pytest.raises(ModelError, match="train one with a stage that has no teacher"):
        capture(
            make_model().base_model,
            ARCHITECTURES["bert"],
            make_batch().student,
            Needs(predictions=True),
        )


def test_an_unknown_architecture_says_how_to_give_paths():
    with pytest.raises(ModelError, match=r"'mamba' is not known .*architecture: \{layers"):
        architecture_of_type("mamba")


def test_a_wrong_path_lists_what_is_there():
    wrong = Architecture(layers="encoder.layers", query="q", key="k", value="v")
    with pytest.raises(ModelError, match="no module 'layers' .* it has: layer"):
        capture(make_model(), wrong, make_batch().student, Needs(hidden=frozenset({0})))


DECODERS_THAT_SEPARATE = [f for f in DECODERS if DECODERS[f].separable_documents]


@pytest.mark.parametrize("family", [f for f in DECODERS if f not in DECODERS_THAT_SEPARATE])
def test_documents_that_cannot_be_isolated_are_refused(family):
    model, tokens = make_model(family), make_batch().student
    tokens = replace(tokens, positions=torch.zeros_like(tokens.input_ids))
    with pytest.raises(ModelError, match="`isolate_documents: false`"):
        capture(model, ARCHITECTURES[family], tokens, Needs(hidden=frozenset({1})))


@pytest.mark.parametrize("family", DECODERS_THAT_SEPARATE)
def test_isolated_documents_are_read_as_if_alone(family):
    model, architecture = make_model(family), ARCHITECTURES[family]
    between = 7
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(8, 200, (n,), generator=generator).tolist() for n in (5, 3, 6)]
    first = [1, *texts[0], between]
    row = torch.tensor([first + texts[1] + [between] + texts[2]])
    yes = torch.ones_like(row, dtype=torch.bool)
    tokens = kept_apart(Tokens(row, yes, row, yes), between)
    needs = Needs(predictions=True, hidden=frozenset({1}))
    together = capture(model, architecture, replace(tokens, predicted=yes), needs)
    start = 0
    for alone in (first, [*texts[1], between], texts[2]):
        ids = torch.tensor([alone])
        real = torch.ones_like(ids, dtype=torch.bool)
        found = capture(model, architecture, Tokens(ids, real, ids, real), needs)
        here = slice(start, start + len(alone))
        torch.testing.assert_close(together.hidden[1][:, here], found.hidden[1])
        logits = together.predictions.logits()[here]
        torch.testing.assert_close(logits, found.predictions.logits(), rtol=1e-4, atol=1e-4)
        start += len(alone)
    assert not tokens.predicted[row == between].any()
    assert tokens.predicted.sum() == row.numel() - 2
