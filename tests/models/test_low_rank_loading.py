"""Importing limbeck is quick, and enough for transformers to load low-rank layers."""

import json
import subprocess
import sys

import pytest
from conftest import make_model

from limbeck.models.families import ARCHITECTURES
from limbeck.student.low_rank import Rank, chosen_layers, factor_layers

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
    factor_layers(model, chosen_layers(model, ARCHITECTURES["llama"], "all"), Rank(budget=0.4))
    folder = tmp_path_factory.mktemp("low-rank")
    model.save_pretrained(folder)
    return str(folder)


LOAD = (
    "import inspect, transformers.quantizers.auto as awaited\n"
    "model, facts = AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)\n"
    "kinds = {type(module).__name__ for module in model.modules()}\n"
    "waiting = [finder for finder in sys.meta_path if 'limbeck' in type(finder).__module__]\n"
    "print(json.dumps([len(facts['missing_keys']), len(facts['unexpected_keys']),"
    " 'FactoredLinear' in kinds, len(waiting),"
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
