"""MPNet's attention in torch's kernel equals that of transformers, and so do its gradients."""

import copy

import pytest
import torch
from conftest import make_batch, make_model

from limbeck.models.biased_attention import use_fused_attention


@pytest.fixture
def models():
    plain = make_model("mpnet")
    torch.nn.init.normal_(plain.base_model.encoder.relative_attention_bias.weight)
    fused = copy.deepcopy(plain)
    use_fused_attention(fused)
    return plain, fused


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "full"])
def test_states_and_gradients_are_the_same(models, padded):
    tokens = make_batch(padded=padded).student
    found = []
    for model in models:
        body = model.base_model
        output = body(tokens.input_ids, attention_mask=tokens.mask.long()).last_hidden_state
        total = output[tokens.mask].square().sum()
        found.append((total, *torch.autograd.grad(total, list(body.encoder.parameters()))))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_maps_of_attention_are_still_there(models):
    tokens = make_batch().student
    maps = [model.base_model(tokens.input_ids, output_attentions=True) for model in models]
    for mine, theirs in zip(*(found.attentions for found in maps), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_dropout_is_used_in_training_alone(models):
    plain, fused = models
    tokens = make_batch(padded=False).student
    for model in (plain, fused):
        model.train()
    torch.manual_seed(0)
    first = fused.base_model(tokens.input_ids).last_hidden_state
    assert not torch.equal(first, fused.base_model(tokens.input_ids).last_hidden_state)
    fused.eval()
    states = [fused.base_model(tokens.input_ids).last_hidden_state for _ in range(2)]
    assert torch.equal(*states)


def test_other_models_are_left_alone():
    model = make_model("bert")
    use_fused_attention(model)
    assert not any("forward" in vars(module) for module in model.modules())
