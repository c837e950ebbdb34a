"""Copies of a teacher's layers, over every family of the table."""

import warnings
from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model
from transformers import AutoConfig
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from limbeck.activations import Needs
from limbeck.errors import StudentError
from limbeck.models.capture import capture
from limbeck.models.families import ARCHITECTURES
from limbeck.models.families.lookup import architecture_of
from limbeck.models.shapes import Shape, shape_of
from limbeck.student.axis_roles import axis_roles, layer_of
from limbeck.student.layer_copy import copy_layers
from limbeck.student.shape import build_student, student_config
from limbeck.student.width import Width

HEAD = 6


def copied(teacher, shape: Shape, layers, width=Width.CUT, family=None):
    """A student of the shape with the teacher's layers; nothing of it may stay random."""
    architecture = ARCHITECTURES[family or teacher.config.model_type]
    config = student_config(teacher.config, architecture, shape, copied_layers=layers)
    student = build_student(config, seed=0, architecture=architecture)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.fill_(torch.nan)
    text = [make_batch(rows=8, padded=True).teacher]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy_layers(student, teacher, architecture, layers=layers, width=width, calibration=text)
    return student


def shape_like(teacher, **sizes: int) -> Shape:
    """The teacher's shape with other sizes, and as many key heads for its heads."""
    architecture = ARCHITECTURES[teacher.config.model_type]
    theirs = shape_of(teacher.config, architecture)
    groups, heads = theirs.num_key_value_heads, sizes.get("num_attention_heads")
    if groups and heads:
        sizes["num_key_value_heads"] = max(1, heads * groups // theirs.num_attention_heads)
    shape = replace(theirs, **sizes)
    if not architecture.intermediate_field:
        shape = replace(shape, intermediate_size=4 * shape.hidden_size)
    return shape


def outputs(model, family, layers):
    """Every layer's hidden states, and the last ones or the logits at real tokens."""
    tokens = make_batch(padded=True).student
    needs = Needs(hidden=frozenset(range(layers)))
    with torch.no_grad():
        found = capture(model, ARCHITECTURES[family], tokens, needs).hidden
        out = model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long())
    last = out.logits if "logits" in out else out.last_hidden_state
    return [*(found[n][tokens.mask] for n in range(layers)), last[tokens.mask]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", list(Width))
def test_a_copy_of_every_layer_at_full_width_is_the_teacher(family, width):
    teacher = make_model(family)
    student = copied(teacher, shape_like(teacher), [[0], [1], [2]], width)
    theirs, ours = (outputs(model, family, 3) for model in (teacher, student))
    for one, other in zip(theirs, ours, strict=True):
        assert torch.equal(one, other)


NARROW = {
    "num_hidden_layers": 2,
    "hidden_size": 12,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 70,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", list(Width))
def test_a_narrower_copy_of_named_layers_leaves_nothing_random(family, width):
    teacher = make_model(family)
    student = copied(teacher, shape_like(teacher, **NARROW), [[0], [2]], width)
    left = [name for name, weight in student.named_parameters() if weight.isnan().any()]
    assert left == []
    for states in outputs(student, family, 2):
        assert torch.isfinite(states).all()


def kept_heads(family: str) -> list[int]:
    """The heads of four that two are filled from, in a copy by `cut`."""
    return [1, 3] if ARCHITECTURES[family].positions == "alibi" else [0, 1]


def sliced(family, teacher, axis_size, role):
    """The coordinates of an axis that are kept, written out."""
    heads, d = kept_heads(family), HEAD
    groups = shape_of(teacher.config, ARCHITECTURES[family]).num_key_value_heads or 4
    shared = 4 // groups
    kept = heads if groups == 4 else list(range(2 // shared))
    rows = {"heads": [h * d + c for h in heads for c in range(d)]}
    rows["groups"] = [g * d + c for g in kept for c in range(d)]
    rows["gated_heads"] = [h * 2 * d + c for h in heads for c in range(2 * d)]
    rows["head"] = heads
    inner = 48 if ARCHITECTURES[family].intermediate_field else 24 * 4
    narrow = 32 if ARCHITECTURES[family].intermediate_field else 12 * 4
    rows["inner"] = list(range(narrow))
    rows["gated"] = [*range(narrow), *range(inner, inner + narrow)]
    rows["hidden"] = list(range(12))
    keys = [4 * d + row for row in rows["groups"]]
    rows["qkv"] = [*rows["heads"], *keys, *(groups * d + row for row in keys)]
    if ARCHITECTURES[family].grouped:
        rows["qkv"] = []
        for group in kept:
            start = group * (shared + 2) * d
            of_group = [h % shared for h in heads if h // shared == group]
            for slot in [*of_group, shared, shared + 1]:
                rows["qkv"] += [start + slot * d + c for c in range(d)]
    if role == "embedding":
        return rows["hidden"] if axis_size == 24 else list(range(axis_size))
    if role == "positions":
        longest = shape_of(teacher.config, ARCHITECTURES[family]).max_position_embeddings
        return list(range(axis_size - longest + NARROW["max_position_embeddings"]))
    return rows.get(role, list(range(axis_size)))


@pytest.mark.parametrize("family", FAMILIES)
def test_width_of_cut_is_plain_slicing(family):
    teacher, architecture = make_model(family), ARCHITECTURES[family]
    student = copied(teacher, shape_like(teacher, **NARROW), [[1], [2]])
    theirs = dict(teacher.named_parameters())
    prefix = teacher.base_model_prefix + "." if teacher is not teacher.base_model else ""
    root = 2**0.5 if family.startswith("gemma") else 1.0
    compared = 0
    for name, ours in student.named_parameters():
        number, rest = layer_of(name.removeprefix(prefix), architecture)
        source = name
        if number is not None:
            owner = 0 if architecture.shared_layers else number + 1
            source = f"{prefix}{architecture.layers}.{owner}.{rest}"
            if source not in theirs:  # T5's additions by distance
                source = f"{prefix}{architecture.layers}.0.{rest}"
        expected = theirs[source]
        roles = axis_roles(source, architecture) or ("same",) * expected.dim()
        for axis, role in enumerate(roles[: expected.dim()]):
            kept = sliced(family, teacher, expected.shape[axis], role)
            expected = expected.index_select(axis, torch.tensor(kept))
        if ours is student.get_input_embeddings().weight:
            expected = expected * root
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6, msg=name)
        compared += 1
    assert compared > 10


def test_layers_of_one_group_are_copied_into_it():
    """ALBERT: two groups of two layers; a student's group is the mean of those its layers name."""
    teacher = make_model("albert", layers=4, num_hidden_groups=2)
    groups = teacher.albert.encoder.albert_layer_groups
    for layers, named in (([[0], [3]], ([0], [1])), ([[1, 2], [3]], ([0, 1], [1]))):
        student = copied(teacher, shape_like(teacher, num_hidden_layers=2), layers)
        assert student.config.num_hidden_groups == 2
        for mine, those in zip(student.albert.encoder.albert_layer_groups, named, strict=True):
            for name, weight in mine.named_parameters():
                theirs = [dict(groups[n].named_parameters())[name] for n in those]
                torch.testing.assert_close(weight, torch.stack(theirs).mean(0))
    one = copied(teacher, shape_like(teacher, num_hidden_layers=1), [[0, 3]])
    assert len(one.albert.encoder.albert_layer_groups) == 1


def test_the_additions_by_distance_are_those_of_the_first_block():
    teacher = make_model("t5")
    student = copied(teacher, shape_like(teacher, num_hidden_layers=1), [[2]])
    mine, theirs = (
        model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        for model in (student, teacher)
    )
    assert torch.equal(mine, theirs)


@pytest.mark.parametrize("family", ["mpnet", "t5", "umt5"])
@pytest.mark.parametrize("width", [Width.SVD, Width.IMPORTANCE])
def test_one_table_of_heads_serves_the_same_heads_in_all_layers(family, width):
    teacher, architecture = make_model(family), ARCHITECTURES[family]
    sizes = {"hidden_size": 12} if family == "mpnet" else {"head_dim": 6}
    shape = shape_like(teacher, num_attention_heads=2, **sizes)
    student = copied(teacher, shape, [[0], [1], [2]], width)
    name = next(n for n, _ in student.named_parameters() if "relative_attention_bias" in n)
    table, wide = student.get_parameter(name), teacher.get_parameter(name)
    kept = [next(h for h in range(4) if torch.equal(wide[:, h], column)) for column in table.T]
    assert kept == sorted(set(kept))
    if family == "mpnet":  # whose values are narrower too
        return
    rows = [head * 6 + place for head in kept for place in range(6)]
    for number in range(3):
        path = f"{architecture.layers}.{number}.{architecture.value}.weight"
        assert torch.equal(student.get_parameter(path), teacher.get_parameter(path)[rows])


@pytest.mark.parametrize(("heads", "student_heads"), [(4, 2), (8, 4), (8, 6), (16, 12), (6, 3)])
def test_heads_of_alibi_keep_how_fast_they_forget(heads, student_heads):
    width = 4 * heads
    teacher = make_model("bloom", hidden=width, num_attention_heads=heads)
    student = copied(
        teacher,
        shape_like(teacher, num_attention_heads=student_heads, hidden_size=4 * student_heads),
        [[0], [1], [2]],
    )
    path = "transformer.h.1.self_attention.dense.weight"
    ours, theirs = student.get_parameter(path), teacher.get_parameter(path)[: 4 * student_heads]
    kept = [
        next(h for h in range(heads) if torch.equal(theirs[:, 4 * h : 4 * h + 4], part))
        for part in ours.split(4, dim=1)
    ]
    assert len(set(kept)) == student_heads
    mask = torch.ones(1, 3, dtype=torch.long)
    slopes = [build_alibi_tensor(mask, n, torch.float32)[:, 0, 1] for n in (heads, student_heads)]
    if heads != 6:
        torch.testing.assert_close(slopes[0][kept], slopes[1])


@pytest.mark.parametrize("layout", ["groups", "one", "each"])
@pytest.mark.parametrize("alibi", [False, True])
def test_the_three_layouts_of_falcon(layout, alibi):
    fields = {
        "groups": {"new_decoder_architecture": True, "num_kv_heads": 2},
        "one": {"new_decoder_architecture": False, "multi_query": True},
        "each": {"new_decoder_architecture": False, "multi_query": False, "num_kv_heads": 4},
    }[layout]
    teacher = make_model("falcon", alibi=alibi, **fields)
    architecture = architecture_of(teacher.config)
    assert architecture.positions == ("alibi" if alibi else "rotary")
    whole = copied(teacher, shape_like(teacher), [[0], [1], [2]])
    for one, other in zip(outputs(teacher, "falcon", 3), outputs(whole, "falcon", 3), strict=True):
        assert torch.equal(one, other)
    student = copied(teacher, shape_like(teacher, **NARROW), [[0], [2]], Width.IMPORTANCE)
    assert all(torch.isfinite(states).all() for states in outputs(student, "falcon", 2))
    groups = {"groups": 1, "one": 1, "each": 2}[layout]
    assert shape_of(student.config, architecture).num_key_value_heads == groups


def test_what_each_layer_is_follows_the_layer_copied():
    teacher = make_model("smollm3")
    theirs = teacher.config.no_rope_layers
    config = student_config(
        teacher.config,
        ARCHITECTURES["smollm3"],
        shape_like(teacher, num_hidden_layers=2),
        copied_layers=[[1], [1, 2]],
    )
    assert config.no_rope_layers == [theirs[1], theirs[2]]
    linear = make_model("qwen3_5_text")
    student = copied(linear, shape_like(linear, **NARROW), [[1], [1, 2]])
    assert student.config.layer_types == ["linear_attention", "full_attention"]


@pytest.mark.parametrize(
    ("model_type", "fields", "expected"),
    [
        ("qwen3_moe", {"mlp_only_layers": [0, 3]}, {"mlp_only_layers": [1]}),
        ("qwen3_moe", {"mlp_only_layers": [0, 1, 2, 3]}, {"mlp_only_layers": [0, 1]}),
        ("bamba", {"attn_layer_indices": [1]}, {"attn_layer_indices": [0]}),
        ("deepseek_v3", {"first_k_dense_replace": 1}, {"first_k_dense_replace": 0}),
        ("deepseek_v3", {"first_k_dense_replace": 2}, {"first_k_dense_replace": 1}),
        ("deepseek_v3", {"first_k_dense_replace": 4}, {"first_k_dense_replace": 2}),
    ],
)
def test_layers_that_are_numbered_or_counted_follow_the_layers_copied(model_type, fields, expected):
    teacher = AutoConfig.for_model(model_type, num_hidden_layers=4, **fields)
    shape = replace(shape_of(teacher, ARCHITECTURES["llama"]), num_hidden_layers=2)
    config = student_config(teacher, ARCHITECTURES["llama"], shape, copied_layers=[[1], [2, 3]])
    assert {name: getattr(config, name) for name in expected} == expected


def test_widths_that_are_the_hidden_size_follow_it():
    teacher = make_model("opt", word_embed_proj_dim=24)
    config = student_config(
        teacher.config, ARCHITECTURES["opt"], shape_like(teacher, hidden_size=12)
    )
    assert config.word_embed_proj_dim == 12
    teacher = make_model("gemma2")
    narrow = shape_like(teacher, hidden_size=16, num_attention_heads=2, head_dim=8)
    config = student_config(teacher.config, ARCHITECTURES["gemma2"], narrow)
    assert (config.head_dim, config.query_pre_attn_scalar) == (8, 8)
    deberta = make_model("deberta-v2")
    config = student_config(
        deberta.config, ARCHITECTURES["deberta-v2"], shape_like(deberta, max_position_embeddings=9)
    )
    assert config.max_relative_positions == 80  # distances mean what they meant


def test_a_student_without_the_projection_of_its_embeddings_is_refused():
    teacher = make_model("opt", word_embed_proj_dim=12)
    with pytest.raises(StudentError, match=r"has no .*project_in\.weight.*another hidden_size"):
        copied(teacher, shape_like(teacher, **NARROW), [[0], [1]])


@pytest.mark.parametrize("width", list(Width))
def test_the_older_head_of_deberta_is_as_wide_as_its_embeddings(width):
    teacher = make_model("deberta-v2", embedding_size=20)
    same = copied(teacher, shape_like(teacher), [[0], [1], [2]], width)
    theirs, ours = (outputs(model, "deberta-v2", 3) for model in (teacher, same))
    assert all(torch.equal(one, other) for one, other in zip(theirs, ours, strict=True))
    narrow = copied(teacher, shape_like(teacher, **NARROW), [[0], [2]], width)
    assert narrow.cls.predictions.transform.dense.weight.shape == (20, 12)


def test_axes_without_roles_are_refused_and_never_shortened():
    teacher = make_model("bert")
    bare = replace(ARCHITECTURES["bert"], axes=())
    student = make_model("bert", hidden=12)
    with pytest.raises(StudentError, match="are not in the architecture"):
        copy_layers(student, teacher, bare, layers=[[0], [1], [2]], width=Width.CUT, calibration=[])


def test_weights_that_the_teacher_lacks_are_named():
    teacher = make_model("qwen3_5_text")
    architecture = ARCHITECTURES["qwen3_5_text"]
    shape = shape_like(teacher, num_hidden_layers=2)
    config = student_config(teacher.config, architecture, shape, copied_layers=[[0], [1]])
    config.layer_types = ["full_attention", "full_attention"]
    student = build_student(config, seed=0, architecture=architecture)
    with pytest.warns(UserWarning, match=r"layers\.1\.self_attn\.q_proj.*stay random"):
        copy_layers(
            student, teacher, architecture, layers=[[0], [1]], width=Width.CUT, calibration=[]
        )
