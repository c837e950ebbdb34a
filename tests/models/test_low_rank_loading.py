"""Importing limbeck is quick, and enough for transformers to load low-rank layers."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import make_model
from transformers import AutoModelForCausalLM

from limbeck.models.families import ARCHITECTURES
from limbeck.student.low_rank import Rank, chosen_layers, factorize_layers

HEAVY = ("torch", "transformers", "numpy", "pydantic", "jaxtyping", "safetensors", "tokenizers")


def printed(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_limbeck_imports_nothing_heavy():
    code = "import sys, json, limbeck; print(json.dumps(sorted(sys.modules)))"
    assert not set(HEAVY) & set(printed(code))


@pytest.fixture(scope="module")
def low_rank_folder(tmp_path_factory):
    model = make_model("llama")
    factorize_layers(
        model, chosen_layers(model, ARCHITECTURES["llama"], "all"), Rank(parameter_ratio=0.4)
    )
    folder = tmp_path_factory.mktemp("low-rank")
    model.save_pretrained(folder)
    return str(folder)


LOAD = (
    "import inspect, transformers.quantizers.auto as awaited\n"
    "model, facts = AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)\n"
    "kinds = {type(module).__name__ for module in model.modules()}\n"
    "waiting = [finder for finder in sys.meta_path if 'limbeck' in type(finder).__module__]\n"
    "print(json.dumps([len(facts['missing_keys']), len(facts['unexpected_keys']),"
    " 'LowRankLinear' in kinds, len(waiting),"
    " 'limbeck' in type(awaited.__spec__.loader).__module__, bool(inspect.getsource(awaited))]))"
)


@pytest.mark.parametrize(
    "imports",
    [
        "import limbeck\nfrom transformers import AutoModelForCausalLM",
        "from transformers import AutoModelForCausalLM\nimport limbeck",
        "import limbeck.models.low_rank_quantizer\nfrom transformers import AutoModelForCausalLM",
    ],
)
def test_importing_limbeck_is_enough_for_transformers(low_rank_folder, imports):
    found = printed(f"import sys, json\n{imports}\n{LOAD}", low_rank_folder)
    assert found == [0, 0, True, 0, False, True]


def test_a_loaded_model_is_an_ordinary_one(low_rank_folder, tmp_path):
    """Fails when transformers treats models of registered quantizers in another way."""
    model = AutoModelForCausalLM.from_pretrained(low_rank_folder)
    assert not getattr(model, "is_quantized", False)
    model(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], w) for name, w in model.state_dict().items())
