"""Models of types that the table does not have, in whole runs; layers that do not attend."""

import pytest
import torch
from conftest import make_model, make_tokenizer
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

import limbeck
from limbeck.models.families import ARCHITECTURES
from limbeck.recipe.check import check
from limbeck.run.distill import distill
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer


@pytest.fixture
def byte_tokenizer(text_file):
    blank = blank_tokenizer("bytes", lowercase=False)
    lines = text_file.read_text(encoding="utf-8").splitlines()
    return learn_tokenizer(lines, blank, vocab_size=300)


def save(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def of_type(model_type, kind, tokenizer, folder, **fields):
    sizes = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "intermediate_size": 48,
        "max_position_embeddings": 80,
        "pad_token_id": tokenizer.pad_token_id,
        "vocab_size": len(tokenizer),
    }
    torch.manual_seed(0)
    model = kind.from_config(AutoConfig.for_model(model_type, **sizes, **fields))
    return save(model, tokenizer, folder)


def test_a_narrower_student_learns_from_a_decoder_of_an_unknown_type(
    raw_recipe, byte_tokenizer, tmp_path
):
    assert "stablelm" not in ARCHITECTURES
    folder = tmp_path / "teacher"
    heads = {"num_key_value_heads": 4}
    teacher = of_type("stablelm", AutoModelForCausalLM, byte_tokenizer, folder, **heads)
    objectives = {
        "relations": {"teacher_layer": 2, "student_layer": 1},
        "hidden_states": {"layers": {1: 2}},
        "logits": {},
    }
    run = distill(
        raw_recipe
        | {
            "teacher": teacher,
            "student": {
                "num_hidden_layers": 2,
                "hidden_size": 16,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "intermediate_size": 32,
                "init_from_teacher": {"layers": [0, 2], "width": "cut"},
            },
            "stages": [{"objectives": objectives, "max_steps": 4, "batch_size": 4}],
        },
        tmp_path / "run",
    )
    student, _ = limbeck.load(str(run.student))
    assert student.config.model_type == "stablelm"
    assert student.config.hidden_size == 16


def test_relations_of_a_type_without_queries_are_refused_before_anything_runs(
    raw_recipe, tokenizer, tmp_path
):
    teacher = of_type("deberta", AutoModel, tokenizer, tmp_path / "teacher", pooler_hidden_size=32)
    _, problems = check(raw_recipe | {"teacher": teacher})
    assert dict(problems) == {
        "stages.0.objectives.relations.teacher_layer": "compares queries, keys or values of layer"
        " 2, which has none; use hidden_states or logits: no layer with attention is known of the"
        " teacher",
        "stages.0.objectives.relations.student_layer": "compares queries, keys or values of layer"
        " 1, which has none; use hidden_states or logits: no layer with attention is known of the"
        " student",
    }
    hidden = [{"objectives": {"hidden_states": {}}, "max_steps": 2, "batch_size": 4}]
    setup, problems = check(raw_recipe | {"teacher": teacher, "stages": hidden})
    assert problems == [] and setup is not None


def test_narrower_copies_of_weights_that_are_not_understood_are_refused_before_anything_runs(
    raw_recipe, tokenizer, tmp_path
):
    teacher = of_type("deberta", AutoModel, tokenizer, tmp_path / "teacher", pooler_hidden_size=32)
    stage = {"objectives": {"hidden_states": {}}, "max_steps": 2, "batch_size": 4}
    raw = raw_recipe | {"teacher": teacher, "stages": [stage]}
    sizes = raw["student"] | {"init_from_teacher": {}}
    [(field, message)] = check(raw | {"student": sizes})[1]
    assert field == "student.init_from_teacher"
    assert "copies layers of deberta at the teacher's sizes alone: the axes of embedd" in message
    fewer = {"num_hidden_layers": 2, "init_from_teacher": {}}
    assert check(raw | {"student": fewer})[1] == []


def test_a_type_that_is_refused_gives_the_row_for_a_recipe(raw_recipe, tmp_path):
    torch.manual_seed(0)
    config = AutoConfig.for_model("xlm", emb_dim=32, n_heads=4, n_layers=3, n_words=200)
    teacher = save(AutoModel.from_config(config), make_tokenizer(), tmp_path / "teacher")
    _, problems = check(raw_recipe | {"teacher": teacher})
    said = dict(problems)["teacher.model"]
    assert "'xlm' is not known (known: albert" in said
    assert "teacher: {model: ..., architecture: {layers: ffns," in said


def test_a_recipe_may_give_the_row_itself(raw_recipe, tokenizer, tmp_path):
    teacher = of_type("ernie", AutoModel, tokenizer, tmp_path / "teacher")
    row = {
        "layers": "encoder.layer",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
    }
    setup, problems = check(raw_recipe | {"teacher": {"model": teacher, "architecture": row}})
    assert problems == []
    assert setup.models.teacher.architecture.head == ()


def test_relations_of_a_layer_that_does_not_attend_are_refused_with_those_that_do(
    raw_recipe, byte_tokenizer, tmp_path
):
    model = make_model("qwen3_5_text", vocabulary=len(byte_tokenizer))
    teacher = save(model, byte_tokenizer, tmp_path / "teacher")

    def problems_of(**objectives):
        stage = {"objectives": objectives, "max_steps": 2, "batch_size": 4}
        raw = raw_recipe | {"teacher": teacher, "student": {"num_hidden_layers": 2}}
        return check(raw | {"stages": [stage]})[1]

    found = problems_of(relations={"teacher_layer": 1, "student_layer": 0})
    assert found == [
        (
            "stages.0.objectives.relations.teacher_layer",
            "compares queries, keys or values of layer 1, which has none; name one of 0, 2, the"
            " layers with attention of the teacher",
        )
    ]
    found = problems_of(attention_scores={"layers": {1: 2}})
    assert [field for field, _ in found] == ["stages.0.objectives.attention_scores.layers"]
    assert problems_of(relations={"teacher_layer": 2, "student_layer": 0}) == []
    assert problems_of(hidden_states={"layers": {1: 1}}, logits={}) == []


def test_predictions_of_a_family_without_a_head_are_refused(raw_recipe, tokenizer, tmp_path):
    teacher = save(make_model("t5", vocabulary=len(tokenizer)), tokenizer, tmp_path / "teacher")
    stage = {"objectives": {"logits": {}}, "max_steps": 2, "batch_size": 4}
    raw = raw_recipe | {"teacher": teacher, "student": {"num_hidden_layers": 2}}
    _, problems = check(raw | {"stages": [stage]})
    assert problems == [
        (
            "stages.0.objectives.logits",
            "needs predictions, and no vocabulary head is known of the student (t5) and the"
            " teacher (t5) (see `limbeck inspect`); use hidden_states",
        )
    ]
