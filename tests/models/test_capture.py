from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model

from limbeck.activations import Needs
from limbeck.batch import Tokens
from limbeck.errors import ModelError
from limbeck.models.architecture import Architecture
from limbeck.models.capture import capture
from limbeck.models.families import ARCHITECTURES, architecture_of
from limbeck.models.modules import submodule
from limbeck.tokenization.batching import kept_apart


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_the_outputs_of_the_named_layers(family):
    model, tokens = make_model(family), make_batch().student
    full = model.base_model(
        input_ids=tokens.input_ids, attention_mask=tokens.mask, output_hidden_states=True
    )
    found = capture(model, ARCHITECTURES[family], tokens, Needs(hidden=frozenset({0, 1})))
    assert found.hidden.keys() == {0, 1}
    for layer in (0, 1):  # hidden_states[0] is the embedding output, which we never count
        torch.testing.assert_close(found.hidden[layer], full.hidden_states[layer + 1])


# Where layers have their norm before what they do, one more norm follows the last of them.
FINAL_NORMS = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), "norm")
FINAL_NORMS |= {"gpt2": "ln_f", "modernbert": "final_norm"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_hidden_state_is_that_before_the_final_norm(family):
    model, tokens, architecture = make_model(family), make_batch().student, ARCHITECTURES[family]
    states = model.base_model(input_ids=tokens.input_ids, attention_mask=tokens.mask)
    found = capture(model, architecture, tokens, Needs(hidden=frozenset({2}))).hidden[2]
    assert (family in FINAL_NORMS) == (architecture.causal or family == "modernbert")
    if family in FINAL_NORMS:
        norm = submodule(model.base_model, FINAL_NORMS[family])
        with torch.no_grad():  # so that the norm is seen where it began as doing nothing
            norm.weight += torch.linspace(0.5, 1.5, len(norm.weight))
        assert not torch.allclose(found, norm(found))
        states = model.base_model(input_ids=tokens.input_ids, attention_mask=tokens.mask)
        found = norm(found)
    torch.testing.assert_close(found, states.last_hidden_state)


@pytest.mark.parametrize("family", FAMILIES)
def test_queries_keys_values_are_the_projections_of_the_layer_input(family):
    model, tokens, architecture = make_model(family), make_batch().student, ARCHITECTURES[family]
    layer = list(submodule(model.base_model, architecture.layers).children())[1]
    inputs = []
    projection = submodule(layer, architecture.query)
    handle = projection.register_forward_hook(lambda m, given, out: inputs.append(given[0]))
    here = frozenset({1})
    found = capture(model, architecture, tokens, Needs(queries=here, keys=here, values=here))
    handle.remove()
    if architecture.fused:
        expected = projection(inputs[0]).chunk(3, dim=-1)
    else:
        paths = (architecture.query, architecture.key, architecture.value)
        expected = [submodule(layer, path)(inputs[0]) for path in paths]
    for name, value in zip(("queries", "keys", "values"), expected, strict=True):
        torch.testing.assert_close(getattr(found, name)[1], value)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_full_models_at_the_predicted_positions(family):
    model, tokens = make_model(family), make_batch().student
    full = model(input_ids=tokens.input_ids, attention_mask=tokens.mask).logits
    found = capture(model, ARCHITECTURES[family], tokens, Needs(predictions=True))
    torch.testing.assert_close(found.predictions.logits(), full[tokens.predicted])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_forward_stops_after_the_last_needed_tensor(family):
    model, architecture = make_model(family), ARCHITECTURES[family]
    ran = []
    layers = list(submodule(model.base_model, architecture.layers).children())
    for number, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda m, given, n=number: ran.append(n))
    capture(model, architecture, make_batch().student, Needs(values=frozenset({1})))
    assert ran == [0, 1]
    found = capture(model, architecture, make_batch().student, Needs())
    assert ran == [0, 1]
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
        architecture_of("mamba")


def test_a_wrong_path_lists_what_is_there():
    wrong = Architecture(layers="encoder.layers", query="q", key="k", value="v")
    with pytest.raises(ModelError, match="no module 'layers' .* it has: layer"):
        capture(make_model(), wrong, make_batch().student, Needs(hidden=frozenset({0})))


@pytest.mark.parametrize("family", [f for f in FAMILIES if ARCHITECTURES[f].causal])
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
