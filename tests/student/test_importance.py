"""Importance measured on text, against plain loops over tokens, heads, units and coordinates."""

from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, make_batch, make_model

from limbeck.batch import Tokens
from limbeck.errors import StudentError
from limbeck.models.families import ARCHITECTURES
from limbeck.models.shapes import shape_of
from limbeck.student.importance import measure_importance
from limbeck.student.layer_copy import copy_layers
from limbeck.student.shape import build_student, student_config
from limbeck.student.width import Width


def text() -> list[Tokens]:
    return [make_batch(rows=4, length=12, seed=seed).teacher for seed in (0, 1)]


def inputs_of(model, path, calibration):
    """The rows of real tokens that enter a module."""
    rows = []
    masks = []

    def keep(module, given):
        rows.extend(
            row.detach()
            for row, real in zip(given[0].flatten(0, 1), masks[-1], strict=True)
            if real
        )

    handle = model.base_model.get_submodule(path).register_forward_pre_hook(keep)
    with torch.no_grad():
        for tokens in calibration:
            masks.append(tokens.mask.flatten().tolist())
            model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long())
    handle.remove()
    return rows


PATHS = {  # of the last layer: output of the heads, down projection; all readers of a layer
    "bert": ("encoder.layer.{}", "attention.output.dense", "output.dense"),
    "llama": ("layers.{}", "self_attn.o_proj", "mlp.down_proj"),
    "gpt2": ("h.{}", "attn.c_proj", "mlp.c_proj"),
    "phi3": ("layers.{}", "self_attn.o_proj", "mlp.down_proj"),
}
READERS = {
    "bert": ("attention.self.query", "intermediate.dense"),
    "llama": ("self_attn.q_proj", "mlp.gate_proj"),
    "gpt2": ("attn.c_attn", "mlp.c_fc"),
    "phi3": ("self_attn.qkv_proj", "mlp.gate_up_proj"),
}


@pytest.mark.parametrize("family", sorted(PATHS))
def test_scores_are_those_of_plain_loops(family):
    model, architecture = make_model(family), ARCHITECTURES[family]
    shape = shape_of(model.config, architecture)
    found = measure_importance(model, architecture, shape, text())
    layer, output, down = PATHS[family]
    for number in range(3):
        heads = [0.0] * 4
        for row in inputs_of(model, f"{layer}.{output}".format(number), text()):
            for head in range(4):
                part = row[head * 6 : head * 6 + 6]
                heads[head] += sum(float(value) ** 2 for value in part) ** 0.5
        torch.testing.assert_close(found.heads[number], torch.tensor(heads), rtol=1e-4, atol=1e-4)
        units = [0.0] * 48
        for row in inputs_of(model, f"{layer}.{down}".format(number), text()):
            for unit, value in enumerate(row.tolist()):
                units[unit] += abs(value)
        torch.testing.assert_close(found.inner[number], torch.tensor(units), rtol=1e-4, atol=1e-4)


def layer_outputs(model, family, calibration):
    rows = []
    for tokens in calibration:
        kept = []
        layers = model.base_model.get_submodule(ARCHITECTURES[family].layers)
        handles = [
            layer.register_forward_hook(
                lambda _, given, out, kept=kept: kept.append(
                    out[0] if isinstance(out, tuple) else out
                )
            )
            for layer in layers
        ]
        with torch.no_grad():
            model(input_ids=tokens.input_ids, attention_mask=tokens.mask.long())
        for handle in handles:
            handle.remove()
        rows.append([state[tokens.mask].tolist() for state in kept])
    return rows


@pytest.mark.parametrize("family", sorted(PATHS))
def test_coordinates_are_scored_where_layers_read_them(family):
    model, architecture = make_model(family), ARCHITECTURES[family]
    found = measure_importance(model, architecture, shape_of(model.config, architecture), text())
    scores, squares = [0.0] * 24, [0.0] * 24

    def add(row):
        size = (sum(value**2 for value in row) / 24) ** 0.5
        for place, value in enumerate(row):
            scores[place] += abs(value) / size

    for number in range(3):
        for reader in READERS[family]:
            path = PATHS[family][0].format(number) + "." + reader
            for row in inputs_of(model, path, text()):
                add(row.tolist())
    for layers in layer_outputs(model, family, text()):
        for row in layers[-1]:
            add(row)
        for rows in layers:
            for row in rows:
                whole = sum(value**2 for value in row)
                for place, value in enumerate(row):
                    squares[place] += value**2 / whole
    torch.testing.assert_close(found.hidden, torch.tensor(scores), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.squares, torch.tensor(squares), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_measured_at_real_tokens_alone(family):
    model, architecture = make_model(family), ARCHITECTURES[family]
    shape = shape_of(model.config, architecture)
    padded = make_batch(rows=1, length=8, padded=False).teacher
    longer = Tokens(
        *(torch.cat([one, torch.zeros_like(one)], 1) for one in (padded.input_ids, padded.mask)),
        labels=torch.cat([padded.labels, padded.labels], 1),
        predicted=torch.cat([padded.predicted, padded.predicted], 1),
    )
    found, again = (measure_importance(model, architecture, shape, [t]) for t in (padded, longer))
    torch.testing.assert_close(found.hidden, again.hidden, rtol=1e-4, atol=1e-4)
    assert float(found.hidden.min()) > 0 and len(found.hidden) == 24
    assert found.heads.keys() == again.heads.keys() and found.heads
    for number, heads in found.heads.items():
        assert heads.shape == (4,) and float(heads.min()) > 0
        torch.testing.assert_close(heads, again.heads[number], rtol=1e-4, atol=1e-4)
    for units in found.inner.values():
        assert units.shape == (shape.intermediate_size,)


@pytest.mark.parametrize("family", ["bert", "llama", "gpt_neox", "gemma2"])
def test_a_copy_keeps_what_is_most_active(family):
    """Heads by group, units by layer, and one set of coordinates for the whole model."""
    teacher, architecture = make_model(family), ARCHITECTURES[family]
    wide = shape_of(teacher.config, architecture)
    sizes = {"num_hidden_layers": 2, "hidden_size": 12, "num_attention_heads": 2}
    groups = wide.num_key_value_heads and 1
    narrow = replace(wide, **sizes, intermediate_size=20, num_key_value_heads=groups)
    layers = [[0, 1], [2]]
    config = student_config(teacher.config, architecture, narrow, copied_layers=layers)
    student = build_student(config, seed=0, architecture=architecture)
    copy_layers(
        student, teacher, architecture, layers=layers, width=Width.IMPORTANCE, calibration=text()
    )
    found = measure_importance(teacher, architecture, wide, text())
    coordinates = sorted(sorted(range(24), key=lambda n: -found.hidden[n])[:12])
    scores = found.heads[2]
    if groups:
        best = max((0, 1), key=lambda group: float(scores[2 * group : 2 * group + 2].sum()))
        heads = [2 * best, 2 * best + 1]
    else:
        heads = sorted(sorted(range(4), key=lambda n: -scores[n])[:2])
    units = sorted(sorted(range(48), key=lambda n: -found.inner[2][n])[:20])
    output, down, norm = {
        "bert": ("attention.output.dense", "output.dense", "output.LayerNorm"),
        "llama": ("self_attn.o_proj", "mlp.down_proj", "input_layernorm"),
        "gpt_neox": ("attention.dense", "mlp.dense_4h_to_h", "input_layernorm"),
        "gemma2": ("self_attn.o_proj", "mlp.down_proj", "input_layernorm"),
    }[family]
    mine, theirs = (
        [m.base_model.get_submodule(f"{architecture.layers}.{n}") for n in range(k)]
        for m, k in ((student, 2), (teacher, 3))
    )
    columns = [head * 6 + place for head in heads for place in range(6)]
    for path, kept in ((output, columns), (down, units)):
        weight = theirs[2].get_submodule(path).weight
        assert torch.equal(mine[1].get_submodule(path).weight, weight[coordinates][:, kept])
    # Norms let the coordinates that are kept be as large as they were; Gemma's multiply by 1 + w.
    grown = (float(found.squares[coordinates].sum() / found.squares.sum()) * 24 / 12) ** 0.5
    ours, gains = (model.get_submodule(norm) for model in (mine[1], theirs[2]))
    one = 1.0 if family == "gemma2" else 0.0
    torch.testing.assert_close(ours.weight + one, (gains.weight[coordinates] + one) * grown)
    if getattr(gains, "bias", None) is not None:
        assert torch.equal(ours.bias, gains.bias[coordinates])
    mean = (theirs[0].get_submodule(down).weight + theirs[1].get_submodule(down).weight) / 2
    shares = sum(found.inner[n] / found.inner[n].sum() for n in (0, 1))
    units = sorted(sorted(range(48), key=lambda n: -shares[n])[:20])
    torch.testing.assert_close(
        mine[0].get_submodule(down).weight, mean[coordinates][:, units], rtol=1e-6, atol=1e-7
    )


def test_without_text_it_is_refused():
    teacher = make_model()
    student = make_model(hidden=12)
    with pytest.raises(StudentError, match="importance needs calibration text"):
        copy_layers(
            student,
            teacher,
            ARCHITECTURES["bert"],
            layers=[[0], [1], [2]],
            width=Width.IMPORTANCE,
            calibration=[],
        )
