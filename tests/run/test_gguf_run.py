"""A GGUF file as the teacher of a whole run, and as the student that a run continues with."""

import json

import pytest
import torch
from conftest import make_model, make_tokenizer
from gguf import GGMLQuantizationType as Kind
from gguf_files import write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_model
from limbeck.recipe.check import check, prepare
from limbeck.run.cacheable import manifest_of, teacher_identity
from limbeck.run.distill import distill
from limbeck.teacher.manifest import Kind as CacheKind

SIZES = {"hidden": 64, "layers": 2, "intermediate_size": 96, "head_dim": 16}


@pytest.fixture
def file(tmp_path):
    bpe = make_tokenizer("byte_bpe", 60)
    model = make_model("llama", vocabulary=len(bpe), **SIZES)
    return write_gguf(tmp_path / "model.gguf", model, bpe, kind=Kind.Q8_0)


@pytest.fixture
def of_decoders(raw_recipe, file):
    raw_recipe["teacher"] = str(file)
    raw_recipe["student"] = {"num_hidden_layers": 1, "init_from_teacher": {"layers": "first"}}
    stage = {"objectives": {"hidden_states": {}, "logits": {}}, "max_steps": 2, "batch_size": 4}
    raw_recipe["stages"] = [stage]
    return raw_recipe


def test_a_student_of_a_gguf_file_is_a_plain_folder(of_decoders, file, tmp_path):
    setup = prepare(of_decoders)
    assert any("dequantized from Q8_0" in warning for warning in setup.warnings)
    folder = distill(of_decoders, tmp_path / "run").student
    student = AutoModelForCausalLM.from_pretrained(folder)
    assert student.config.num_hidden_layers == 1
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    text = "the red house, тихо"
    tokenizers = AutoTokenizer.from_pretrained(folder), setup.models.teacher.tokenizer
    one, other = (t(text, add_special_tokens=False).input_ids for t in tokenizers)
    assert one == other
    teacher = load_model(str(file), architecture=ARCHITECTURES["llama"], with_head=True)
    tables = [model.get_input_embeddings().weight for model in (teacher, student)]
    assert torch.allclose(*tables, atol=0.01)  # taken from the teacher, two steps ago


def test_caches_know_the_bytes_of_the_file(of_decoders, file):
    setup = prepare(of_decoders)
    before = teacher_identity(setup), manifest_of(setup, CacheKind("exact")).identity
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    setup = prepare(of_decoders)
    after = teacher_identity(setup), manifest_of(setup, CacheKind("exact")).identity
    assert before[0] != after[0]
    assert {key for key in after[1] if after[1][key] != before[1][key]} == {"teacher"}


def test_a_run_continues_with_a_model_in_a_gguf_file(of_decoders, file, tmp_path):
    of_decoders["student"] = {"model": str(file)}
    folder = distill(of_decoders, tmp_path / "run").student
    assert AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers == 2


def test_a_damaged_file_is_a_problem_of_the_recipe(of_decoders, file):
    file.write_bytes(file.read_bytes()[:-50])
    _, problems = check(of_decoders)
    assert [field for field, _ in problems] == ["teacher.model"]
    assert "is incomplete" in problems[0][1]
