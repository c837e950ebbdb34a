"""The weights of a low-rank student as those of a dense model, beside merging it in place."""

import copy

import pytest
import torch
from conftest import make_model
from transformers import AutoModelForCausalLM

from limbeck.models.families.lookup import architecture_of
from limbeck.student.adapters import add_adapters, merge_adapters
from limbeck.student.dense_weights import dense_weights, save_dense
from limbeck.student.low_rank import Rank, chosen_layers, factorize_layers, merge_factors

IDS = torch.tensor([[5, 9, 3, 7, 2]])


def low_rank_student(family, kind):
    model = make_model(family)
    row = architecture_of(model.config)
    paths = chosen_layers(model, row, "all")
    if kind == "factors":
        factorize_layers(model, paths, Rank(2))
    elif kind == "adapters":
        add_adapters(model, paths, rank=2, alpha=6, seed=1)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.1)
    return model.eval(), row


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", ["factors", "adapters", "neither"])
def test_a_dense_folder_answers_as_the_low_rank_student(family, kind, tmp_path):
    model, row = low_rank_student(family, kind)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    merged = copy.deepcopy(model)
    merge_adapters(merged) if kind == "adapters" else merge_factors(merged, row)
    found = dense_weights(model, inputs_first=row.inputs_first)
    assert found.keys() == merged.state_dict().keys()
    for name, weight in merged.state_dict().items():
        torch.testing.assert_close(found[name], weight)

    save_dense(model, tmp_path, inputs_first=row.inputs_first)
    loaded, facts = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not facts["missing_keys"] and not facts["unexpected_keys"]
    assert getattr(loaded.config, "quantization_config", None) is None
    with torch.no_grad():
        torch.testing.assert_close(loaded(IDS).logits, model(IDS).logits)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])
    assert hasattr(model.config, "quantization_config") == (kind == "factors")
