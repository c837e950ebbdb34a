from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model
from shapes import LARGE

from limbeck.errors import StudentError
from limbeck.models.families import ARCHITECTURES
from limbeck.models.modules import submodule
from limbeck.models.shapes import Shape, shape_of
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
    """The shape with what the family sets: half as many key heads if grouped, causal or not."""
    theirs = shape_of(make_model(family).config, ARCHITECTURES[family])
    grouped = theirs.num_key_value_heads and max(1, shape.num_attention_heads // 2)
    head_size = theirs.head_dim and shape.hidden_size // shape.num_attention_heads
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
    student = build_student(config, seed=0, causal=architecture.causal)
    calibration = [make_batch(rows=8, padded=False).teacher]
    copy_layers(student, teacher, architecture, layers=layers, width=width, calibration=calibration)
    return teacher, student


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_has_the_required_shape(family):
    architecture, causal = ARCHITECTURES[family], ARCHITECTURES[family].causal
    shape = like_family(
        family,
        shaped(num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=20),
    )
    config = student_config(make_model(family).config, architecture, shape)
    student = build_student(config, seed=0, causal=causal)
    assert shape_of(student.config, architecture) == shape
    total, embeddings = parameters_of_shape(config, with_head=True, causal=causal)
    assert total == sum(p.numel() for p in student.parameters())
    assert 200 * 16 <= embeddings < total
    again = build_student(config, seed=0, causal=causal)
    for ours, theirs in zip(student.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", list(Width))
def test_a_copy_of_every_layer_at_full_width_is_the_teacher(family, width):
    teacher, student = copied(family, LARGE, [0, 1, 2], width)
    tokens = make_batch(padded=False).student
    torch.testing.assert_close(
        student(input_ids=tokens.input_ids).logits, teacher(input_ids=tokens.input_ids).logits
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", list(Width))
def test_a_narrower_copy_of_named_layers_runs(family, width):
    heads = 2 if like_family(family, LARGE).num_key_value_heads else 3
    shape = shaped(
        num_hidden_layers=2, hidden_size=6 * heads, num_attention_heads=heads, intermediate_size=32
    )
    _, student = copied(family, shape, [0, 2], width)
    tokens = make_batch(padded=False).student
    assert torch.isfinite(student(input_ids=tokens.input_ids).logits).all()


def test_width_of_cut_keeps_the_first_coordinates():
    teacher, student = copied(
        "bert", shaped(hidden_size=18, num_attention_heads=3), [0, 1, 2], Width.CUT
    )
    name = "bert.encoder.layer.1.attention.self.query.weight"
    theirs, ours = teacher.get_parameter(name), student.get_parameter(name)
    assert torch.equal(ours, theirs[:18, :18])
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(student.get_parameter(name), teacher.get_parameter(name)[:, :18])


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
        student = build_student(config, seed=0, causal=False)
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
    student = build_student(config, seed=0, causal=architecture.causal)
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
        in dict(shape_problems(odd, rotary=True))["num_attention_heads"]
    )
    warned = shape_warnings(shaped(num_hidden_layers=9, hidden_size=48), LARGE)
    assert (
        len(warned) == 2 and "num_hidden_layers (9) is larger than the teacher's (3)" in warned[0]
    )


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
