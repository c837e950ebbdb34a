import pytest
import torch
from conftest import FAMILIES, all_needs, make_batch, make_model

from limbeck.models.attention import use_float32_attention
from limbeck.models.capture import capture_tensors
from limbeck.models.families import ARCHITECTURES


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_in_float32_changes_nothing_in_a_float32_forward(family):
    model, tokens = make_model(family), make_batch().student
    wanted = all_needs(family).tensors()
    plain = capture_tensors(model, ARCHITECTURES[family], tokens, wanted)
    use_float32_attention(model)
    found = capture_tensors(model, ARCHITECTURES[family], tokens, wanted)
    for name, tensor in plain.items():
        real = tensor[tokens.mask] if tensor.shape[:2] == tokens.mask.shape else tensor
        other = found[name][tokens.mask] if tensor.shape[:2] == tokens.mask.shape else found[name]
        torch.testing.assert_close(other, real)
