from dataclasses import replace

import pytest
import torch
from conftest import make_batch, make_model
from shapes import DEEP, LARGE, SMALL

from limbeck.activations import Activations
from limbeck.batch import Batch, Tokens
from limbeck.errors import ObjectiveError
from limbeck.models.capture import capture
from limbeck.models.families import ARCHITECTURES
from limbeck.models.shapes import shape_of
from limbeck.objectives.attention_scores import AttentionScores
from limbeck.objectives.hidden_states import HiddenStates
from limbeck.objectives.labels import Labels
from limbeck.objectives.layer_names import layer_number
from limbeck.objectives.qkv import Qkv
from limbeck.objectives.relations import Relations
from limbeck.objectives.uld import Uld
from limbeck.student.projections import MapSize, Projections

_QKV = ("queries", "keys", "values")


def test_labels_equal_plain_loops():
    model, batch = make_model(), make_batch()
    tokens = batch.student
    logits = model(input_ids=tokens.input_ids, attention_mask=tokens.mask).logits.detach()
    expected = 0.0
    for row, place in tokens.predicted.nonzero().tolist():
        scores = logits[row, place].double()
        expected += float(scores.logsumexp(0) - scores[tokens.labels[row, place]])
    labels = Labels()
    student = capture(model, ARCHITECTURES["bert"], tokens, labels.student_needs())
    total = labels.total(student, Activations(), batch, Projections({}, seed=0))
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    assert labels.count(batch) == int(tokens.predicted.sum())


def test_labels_without_predictions_say_what_is_missing():
    with pytest.raises(ObjectiveError, match="need the student's predictions"):
        Labels().total(Activations(), Activations(), make_batch(), Projections({}, seed=0))


def test_hidden_equals_plain_loops():
    objective = HiddenStates(layers={0: 1, "last": "last"}).bound(SMALL, LARGE)
    assert objective.layer_pairs() == [(0, 1), (1, 2)]
    sizes = objective.projection_sizes(SMALL, LARGE)
    projections, batch = Projections(sizes, seed=0), make_batch()
    torch.manual_seed(0)
    student = {n: torch.randn(4, 12, 16) for n in (0, 1)}
    teacher = {n: torch.randn(4, 12, 24) for n in (1, 2)}
    expected = 0.0
    for s, t in objective.layer_pairs():
        matrix = projections.maps[f"hidden_{s}_to_{t}"].weight
        for row, place in batch.student.mask.nonzero().tolist():
            difference = matrix @ student[s][row, place] - teacher[t][row, place]
            expected += float((difference**2).mean().detach())
    total = objective.total(
        Activations(hidden=student), Activations(hidden=teacher), batch, projections
    )
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)


def test_hidden_needs_no_projection_between_equal_widths():
    assert HiddenStates().bound(LARGE, LARGE).projection_sizes(LARGE, LARGE) == {}


def test_maps_that_layers_share_are_one_for_each_width():
    objective = HiddenStates(layers="uniform+top", projection="shared").bound(SMALL, DEEP)
    assert [len(layers) for layers in objective.layers.values()] == [2, 1]
    sizes = objective.projection_sizes(SMALL, DEEP)
    assert sizes == {"hidden_shared_2": MapSize(16, 48), "hidden_shared_1": MapSize(16, 24)}


def test_maps_of_queries_keys_and_values_are_one_for_each_head():
    bound = Qkv().bound(SMALL, LARGE)
    assert {size.heads for size in bound.projection_sizes(SMALL, LARGE).values()} == {8}
    wide = {"hidden_size": 768, "num_attention_heads": 12}
    assert Qkv().bound(sized(**wide), sized(**wide)).heads == 48


@pytest.mark.parametrize("kind", [Relations, AttentionScores])
def test_documents_in_a_row_are_compared_as_alone(kind):
    objective = kind(heads=4).bound(SMALL, SMALL)
    layers = {layer for pair in objective.layer_pairs() for layer in pair}
    read, none = make_batch(padded=False).student, Projections({}, seed=0)
    torch.manual_seed(0)
    sides = [
        {
            name: {n: torch.randn(4, 12, 16) for n in layers}
            for name in ("queries", "keys", "values")
        }
        for _ in range(2)
    ]

    def total(start, stop, positions):
        given = (read.input_ids, read.mask, read.labels, read.predicted)
        tokens = Tokens(*(some[:, start:stop] for some in given), positions=positions)
        found = [
            Activations(**{k: {n: v[:, start:stop] for n, v in of.items()} for k, of in s.items()})
            for s in sides
        ]
        return float(objective.total(*found, Batch(tokens, tokens), none))

    places = torch.cat([torch.arange(5), torch.arange(7)]).expand(4, -1)
    together = total(0, 12, places)
    assert together == pytest.approx(total(0, 5, None) + total(5, 12, None), rel=1e-5)
    assert together != pytest.approx(total(0, 12, None), rel=1e-3)


@pytest.mark.parametrize("kind", [Relations, AttentionScores])
def test_a_decoder_on_either_side_compares_with_earlier_tokens_alone(kind):
    decoder, encoder = replace(SMALL, causal=True), replace(SMALL, causal=False)
    for student in (decoder, encoder):
        for teacher in (decoder, encoder):
            bound = kind().bound(student, teacher)
            assert bound.causal == (student.causal or teacher.causal)
            assert kind(causal=False).bound(student, teacher).causal is False
            assert kind(causal=True).bound(student, teacher).causal is True


def test_relations_weigh_their_pairs():
    batch, bert = make_batch(), ARCHITECTURES["bert"]
    student, teacher = make_model(hidden=16, layers=2), make_model(seed=3)
    shapes = shape_of(student.config, bert), shape_of(teacher.config, bert)

    def total(pairs):
        objective = Relations(pairs=pairs, heads=4).bound(*shapes)
        found = [
            capture(student, bert, batch.student, objective.student_needs()),
            capture(teacher, bert, batch.teacher, objective.teacher_needs()),
        ]
        return float(objective.total(*found, batch, Projections({}, seed=0)).detach())

    single = {pair: total({pair: 1.0}) for pair in ("QQ", "KK", "VV", "QK")}
    assert len(set(single.values())) == 4
    expected = 2 * single["QQ"] + 0.5 * single["QK"]
    assert total({"QQ": 2.0, "QK": 0.5}) == pytest.approx(expected, rel=1e-5)


def test_relations_bind_names_to_numbers():
    bound = Relations(teacher_layer="last-1").bound(SMALL, LARGE)
    assert (bound.teacher_layer, bound.student_layer, bound.heads) == (1, 1, 8)
    assert bound.layer_pairs() == [(1, 1)]


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        (
            {"heads": 5},
            "heads",
            r"does not divide every width \(16, 24\) .* use one of \[1, 2, 4, 8\]",
        ),
        ({"teacher_layer": 3}, "teacher_layer", "use 0 to 2"),
        ({"student_layer": "last-2"}, "student_layer", "use 0 to 1"),
        ({"student_layer": "deepest"}, "student_layer", "names no layer"),
        ({"pairs": {"QX": 1.0}}, "pairs.QX", "no pair of Q, K and V"),
        ({"pairs": {"QQ": -1.0}}, "pairs.QQ", "give it a finite weight above 0"),
        ({"pairs": {}}, "pairs", "is empty"),
    ],
)
def test_relations_name_their_problems(options, field, message):
    import re

    problems = Relations(**options).problems_with(SMALL, LARGE)
    assert [f for f, _ in problems] == [field]
    assert re.search(message, problems[0][1])


def test_objectives_that_need_a_teacher_say_so():
    for objective in (Relations(), HiddenStates()):
        assert "needs a teacher" in objective.problems_with(SMALL, None)[0][1]
        with pytest.raises(ObjectiveError, match="needs a teacher"):
            objective.bound(SMALL, None)
    assert Labels().problems_with(SMALL, None) == []


def test_layer_names():
    assert [layer_number(name, 6) for name in ("last", "last-1", 0, 5)] == [5, 4, 0, 5]
    for wrong in (6, -1, "last-6", "last-x", "top"):
        with pytest.raises(ObjectiveError):
            layer_number(wrong, 6)
    assert [field for field, _ in Relations(teacher_layer=-1).problems()] == ["teacher_layer"]


def sized(**sizes):
    return replace(LARGE, **sizes)


@pytest.mark.parametrize(
    ("pairs", "student", "teacher", "heads"),
    [
        (
            None,
            {"hidden_size": 384, "num_attention_heads": 12},
            {"hidden_size": 768, "num_attention_heads": 12},
            48,
        ),
        (
            None,
            {"hidden_size": 384, "num_attention_heads": 12},
            {"hidden_size": 1024, "num_attention_heads": 16},
            64,
        ),
        (
            None,
            {"hidden_size": 256, "num_attention_heads": 8},
            {"hidden_size": 384, "num_attention_heads": 12},
            32,
        ),
        (
            {"QK": 1.0, "VV": 1.0},
            {"hidden_size": 384, "num_attention_heads": 12},
            {"hidden_size": 768, "num_attention_heads": 12},
            12,
        ),
        (
            {"QK": 1.0, "VV": 1.0},
            {"hidden_size": 256, "num_attention_heads": 8},
            {"hidden_size": 384, "num_attention_heads": 12},
            4,
        ),
        (
            {"KQ": 1.0},
            {"hidden_size": 256, "num_attention_heads": 8},
            {"hidden_size": 384, "num_attention_heads": 12},
            4,
        ),
        # Query heads share their keys: only the pairs without queries are as narrow as these.
        ({"QQ": 1.0}, {}, {"num_key_value_heads": 1}, 24),
        ({"KK": 1.0}, {}, {"num_key_value_heads": 1}, 6),
    ],
)
def test_relation_heads_by_default(pairs, student, teacher, heads):
    options = {"pairs": pairs} if pairs else {}
    assert Relations(**options).bound(sized(**student), sized(**teacher)).heads == heads


def test_queries_with_keys_are_the_attention_itself():
    """Rotation within the heads does not change the attention, and the loss stays 0."""
    objective = Relations(pairs={"QK": 1.0}).bound(LARGE, LARGE)
    batch = make_batch()
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 4, 12, 24).unbind(0)
    turns = [torch.linalg.qr(torch.randn(6, 6))[0] for _ in range(4)]

    def turned(vectors):
        heads = vectors.reshape(4, 12, 4, 6).unbind(2)
        return torch.cat([head @ turn for head, turn in zip(heads, turns, strict=True)], dim=-1)

    student = Activations(queries={2: turned(queries)}, keys={2: turned(keys)})
    teacher = Activations(queries={2: queries}, keys={2: keys})
    total = objective.total(student, teacher, batch, Projections({}, seed=0))
    assert abs(float(total)) < 1e-4


@pytest.mark.parametrize("name", ["last-²", "last--1", "²"])
def test_layer_names_of_other_digits(name):
    with pytest.raises(ObjectiveError, match="names no layer"):
        layer_number(name, 6)
    problems = HiddenStates(layers=f"0:{name}").problems_with(LARGE, LARGE)
    assert problems and problems[0][0] == "layers"


@pytest.mark.parametrize("sizes", [(0, 0), (5000, 5000)])
def test_uld_of_tokens_that_are_not_there(sizes):
    assert [f for f, _ in Uld(vocabularies=sizes).problems_with(SMALL, LARGE)] == ["vocabularies"]
    bound = Uld(top_k=3, vocabularies=(5, 7)).bound(SMALL, LARGE)
    assert bound.top_k == 3 and [ids.end for ids in bound.vocabularies] == [5, 7]
