from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model
from shapes import LARGE
from transformers import AutoTokenizer

from limbeck.errors import StudentError
from limbeck.models.families import ARCHITECTURES
from limbeck.models.modules import submodule
from limbeck.models.shapes import Shape, shape_of
from limbeck.recipe.describe import describe_models
from limbeck.recipe.models_part import StudentPart, TeacherPart
from limbeck.student.copied_sizes import size_problem
from limbeck.student.layer_copy import copy_layers, copy_problems
from limbeck.student.projections import MapSize, Projections
from limbeck.student.shape import (
    build_student,
    parameters_of_shape,
    shape_problems,
    shape_warnings,
    student_config,
)
from limbeck.student.width import Width


def shaped(**sizes: int) -> Shape:
    return replace(LARGE, **sizes)


def like_family(family: str, shape: Shape) -> Shape:
    """The shape with what the family sets: its share of key heads, causal or not."""
    theirs = shape_of(make_model(family).config, ARCHITECTURES[family])
    heads, groups = theirs.num_attention_heads, theirs.num_key_value_heads
    grouped = groups and max(1, shape.num_attention_heads * groups // heads)
    head_size = theirs.head_dim and shape.hidden_size // shape.num_attention_heads
    if not ARCHITECTURES[family].intermediate_field:
        shape = replace(shape, intermediate_size=4 * shape.hidden_size)
    return replace(shape, num_key_value_heads=grouped, head_dim=head_size, causal=theirs.causal)


def copied(family: str, shape: Shape, layers: list[int], width: Width):
    layers = [[layer] for layer in layers]
    teacher, architecture = make_model(family), ARCHITECTURES[family]
    shape = like_family(family, shape)
    shape = replace(
        shape,
        max_position_embeddings=shape_of(teacher.config, architecture).max_position_embeddings - 5,
    )
    config = student_config(teacher.config, architecture, shape, copied_layers=layers)
    student = build_student(config, seed=0, architecture=architecture)
    calibration = [make_batch(rows=8, padded=False).teacher]
    copy_layers(student, teacher, architecture, layers=layers, width=width, calibration=calibration)
    return teacher, student


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_has_the_required_shape(family):
    architecture = ARCHITECTURES[family]
    shape = like_family(
        family,
        shaped(num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=20),
    )
    config = student_config(make_model(family).config, architecture, shape)
    student = build_student(config, seed=0, architecture=architecture)
    assert shape_of(student.config, architecture) == shape
    total, embeddings = parameters_of_shape(config, with_head=True, architecture=architecture)
    assert total == sum(p.numel() for p in student.parameters())
    rows = student.get_input_embeddings().weight
    assert rows.numel() <= embeddings < total
    again = build_student(config, seed=0, architecture=architecture)
    for ours, theirs in zip(student.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_svd_loses_nothing_where_the_states_fill_a_smaller_space():
    """A teacher whose states use 12 of 24 directions fits a student of width 13."""
    teacher, architecture = make_model("bert", layers=1), ARCHITECTURES["bert"]
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(24, 12)).Q
    project = basis @ basis.mT
    project = project - project.mean(0, keepdim=True)
    body = teacher.bert
    for table in ("word", "position", "token_type"):
        weight = getattr(body.embeddings, f"{table}_embeddings").weight
        weight.data.copy_(weight @ project.mT)
    layer = body.encoder.layer[0]
    for part in (layer.attention.output.dense, layer.output.dense):
        part.weight.data.copy_(project @ part.weight)
        part.bias.data.zero_()
    shape = shaped(num_hidden_layers=1, hidden_size=16, num_attention_heads=4)
    found = {}
    for width in Width:
        config = student_config(teacher.config, architecture, shape, copied_layers=[[0]])
        student = build_student(config, seed=0, architecture=architecture)
        tokens = make_batch(rows=16, padded=False).teacher
        copy_layers(student, teacher, architecture, layers=[[0]], width=width, calibration=[tokens])
        with torch.no_grad():
            theirs, ours = (
                m.base_model(input_ids=tokens.input_ids).last_hidden_state.flatten(0, 1)
                for m in (teacher, student)
            )
        gram = [(x @ x.mT) / x.square().sum() for x in (theirs, ours)]
        found[width] = float((gram[0] - gram[1]).norm() / gram[0].norm())
    assert found[Width.SVD] < 0.6 * found[Width.CUT]


def test_modernbert_students_take_the_kind_of_the_layer_copied():
    teacher = make_model("modernbert")
    config = student_config(
        teacher.config,
        ARCHITECTURES["modernbert"],
        shaped(num_hidden_layers=2),
        copied_layers=[[1], [1, 2]],
    )
    assert config.layer_types == ["sliding_attention", "full_attention"]


def test_impossible_copies_are_refused_with_every_reason():
    problems = copy_problems(
        shaped(num_hidden_layers=2, hidden_size=48, num_attention_heads=8), LARGE, [[0], [3], [1]]
    )
    text = "; ".join(problems)
    assert "3 teacher layers for 2 student layers" in text
    assert "[3], but there are 3: 0 to 2" in text
    assert "cannot fill hidden_size=48 from the teacher's 24" in text
    two, thin = {"num_hidden_layers": 2}, {"num_hidden_layers": 2, "hidden_size": 16}
    [problem] = copy_problems(shaped(**two), LARGE, [[0], []])
    assert "names no teacher layer for student layers [1]" in problem
    [problem] = copy_problems(shaped(**two, max_position_embeddings=81), LARGE, [[0], [1]])
    assert "cannot fill max_position_embeddings=81" in problem
    [problem] = copy_problems(shaped(**two, num_key_value_heads=2), LARGE, [[0], [1]])
    assert "cannot fill heads per key_value_head=2 from the teacher's 1" in problem
    assert copy_problems(shaped(**thin), LARGE, [[0], [1]]) == []
    [problem] = copy_problems(shaped(**thin), LARGE, [[0], [1]], rotary=True)
    assert "cannot make heads of 6 coordinates as narrow as 4 where positions are rotary" in problem
    teacher, architecture = make_model(), ARCHITECTURES["bert"]
    student = make_model(hidden=16)
    with pytest.raises(StudentError, match="needs calibration text"):
        copy_layers(
            student, teacher, architecture, layers=[[0], [1], [2]], width=Width.SVD, calibration=[]
        )


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "modernbert"])
def test_a_layer_may_be_the_mean_of_several(family):
    teacher, architecture = make_model(family), ARCHITECTURES[family]
    shape = shape_of(teacher.config, architecture)
    config = student_config(teacher.config, architecture, replace(shape, num_hidden_layers=2))
    student = build_student(config, seed=0, architecture=architecture)
    copy_layers(
        student, teacher, architecture, layers=[[0], [1, 2]], width=Width.CUT, calibration=[]
    )
    mine, theirs = (
        submodule(model.base_model, architecture.layers) for model in (student, teacher)
    )
    later = [dict(theirs[n].named_parameters()) for n in (1, 2)]
    for name, weight in mine[1].named_parameters():
        torch.testing.assert_close(weight, (later[0][name] + later[1][name]) / 2)
    for name, weight in theirs[0].named_parameters():
        assert torch.equal(weight, dict(mine[0].named_parameters())[name])


def test_shape_problems_and_warnings():
    assert shape_problems(LARGE) == []
    assert dict(shape_problems(shaped(num_attention_heads=5)))["num_attention_heads"].startswith(
        "is 5, which does not"
    )
    assert "num_hidden_layers" in dict(shape_problems(shaped(num_hidden_layers=0)))
    assert "vocab_size" in dict(shape_problems(replace(LARGE, tokens=300)))
    assert "num_key_value_heads" in dict(shape_problems(replace(LARGE, num_key_value_heads=3)))
    odd = shaped(hidden_size=12, num_attention_heads=4)
    assert shape_problems(odd) == []
    assert (
        "needs an even number (hidden_size=12)"
        in dict(shape_problems(odd, ARCHITECTURES["llama"]))["num_attention_heads"]
    )
    warned = shape_warnings(shaped(num_hidden_layers=9, hidden_size=48), LARGE)
    assert (
        len(warned) == 2 and "num_hidden_layers (9) is larger than the teacher's (3)" in warned[0]
    )


def test_a_student_of_a_quantized_teacher_is_not_quantized():
    teacher = make_model("llama").config
    teacher.quantization_config = {"quant_method": "fp8", "weight_block_size": [8, 8]}
    architecture = ARCHITECTURES["llama"]
    config = student_config(teacher, architecture, shape_of(teacher, architecture))
    assert "quantization_config" not in config.to_dict()
    assert "quantization_config" in teacher.to_dict()


def test_shapes_that_a_family_does_not_have():
    bloom = make_model("bloom")
    shape = shape_of(bloom.config, ARCHITECTURES["bloom"])
    assert shape_problems(shape, ARCHITECTURES["bloom"], bloom.config) == []
    wider = replace(shape, intermediate_size=50)
    (field, message), *more = shape_problems(wider, ARCHITECTURES["bloom"], bloom.config)
    assert (field, more) == (
        "intermediate_size",
        [],
    ) and "always 4 x hidden_size; give 96" in message
    one = make_model("falcon", new_decoder_architecture=False, multi_query=True).config
    shape = shape_of(one, ARCHITECTURES["falcon"])
    assert shape.num_key_value_heads == 1
    assert shape_problems(shape, ARCHITECTURES["falcon"], one) == []
    two = replace(shape, num_key_value_heads=2)
    (field, message), *more = shape_problems(two, ARCHITECTURES["falcon"], one)
    assert (field, more) == ("num_key_value_heads", []) and "this family has 1; give 1" in message
    config = make_model("phi3").config
    shape = shape_of(config, ARCHITECTURES["phi3"])
    factors = {"short_factor": [1.0] * 3, "long_factor": [2.0] * 3}
    config.rope_parameters = {**config.rope_parameters, "rope_type": "longrope", **factors}
    assert shape_problems(shape, ARCHITECTURES["phi3"], config) == []
    wider = replace(shape, num_attention_heads=2)
    (field, message), *more = shape_problems(wider, ARCHITECTURES["phi3"], config)
    assert (field, more) == ("num_attention_heads", [])
    assert "2, of 12 coordinates each" in message and "num_attention_heads = 6" in message
    config.num_attention_heads = config.num_key_value_heads = 2
    field, message = size_problem(config, ARCHITECTURES["phi3"])
    assert field == "student" and "transformers builds no phi3: " in message


@pytest.mark.parametrize(
    ("family", "fields", "heads", "groups", "inner"),
    [
        ("bloom", {}, 2, None, 48),
        ("falcon", {"new_decoder_architecture": False, "multi_query": True}, 2, 1, 24),
        ("llama", {"num_key_value_heads": 1}, 2, 1, 24),
        ("llama", {}, 2, 1, 24),
    ],
)
def test_sizes_that_a_recipe_leaves_out(family, fields, heads, groups, inner, decoder, tmp_path):
    """They are the teacher's, or follow those that are given."""
    make_model(family, vocabulary=300, **fields).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(decoder).save_pretrained(tmp_path)
    student = {"hidden_size": 12, "num_attention_heads": heads, "init_from_teacher": {}}
    if family != "bloom":
        student["intermediate_size"] = 24
    models, problems, _ = describe_models(
        TeacherPart(model=str(tmp_path)), StudentPart.model_validate(student)
    )
    assert problems == []
    shape = shape_of(models.student.config, models.student.architecture)
    assert (shape.num_key_value_heads, shape.intermediate_size) == (groups, inner)


@pytest.mark.parametrize(
    ("teacher", "fields", "family", "groups", "positions"),
    [
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 2}, "qwen2", 2, 90),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 2}, "gemma3_text", 2, 90),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 4}, "mistral", 4, 90),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 4}, "falcon", 1, 90),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 4}, "gpt2", None, 90),
        ("llama", {"max_position_embeddings": 5000}, "gpt2", None, 1024),
        ("llama", {}, "bloom", None, 2**20),
        ("gpt2", {}, "llama", 4, 90),
        ("bloom", {}, "olmo2", 4, 2048),
    ],
)
def test_sizes_that_are_left_out_are_those_of_a_teacher_of_another_family(
    teacher, fields, family, groups, positions, decoder, tmp_path
):
    """Heads of keys and values, and positions, which nobody has given; it reads a text."""
    fields = {"max_position_embeddings": 90, "num_attention_heads": 4, **fields}
    make_model(teacher, vocabulary=300, **fields).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(decoder).save_pretrained(tmp_path)
    student = StudentPart.model_validate({"model_type": family, "num_hidden_layers": 4})
    models, problems, _ = describe_models(TeacherPart(model=str(tmp_path)), student)
    assert problems == []
    side = models.student
    shape = shape_of(side.config, side.architecture)
    assert shape.num_attention_heads == 4 and shape.num_hidden_layers == 4
    assert (shape.num_key_value_heads, shape.max_position_embeddings) == (groups, positions)
    built = build_student(side.config, seed=0, architecture=side.architecture)
    assert built(torch.arange(8)[None]).logits.shape[:2] == (1, 8)


def test_projections_leave_equal_widths_alone():
    projections = Projections({"a": MapSize(3, 5), "c": MapSize(4, 6, 2)}, seed=0)
    states = torch.randn(2, 3)
    assert projections("a", states).shape == (2, 5)
    assert projections("b", states) is states


def test_projections_of_several_heads_map_each_slice_separately():
    projections = Projections({"a": MapSize(4, 6, 2)}, seed=0)
    states = torch.randn(5, 4)
    weight = projections.maps["a"].weight
    expected = torch.cat([states[:, :2] @ weight[0].mT, states[:, 2:] @ weight[1].mT], dim=1)
    torch.testing.assert_close(projections("a", states), expected)
