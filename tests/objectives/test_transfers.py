"""Objectives over states, vectors and scores equal plain loops over their definitions."""

import math

import pytest
import torch
from conftest import make_batch
from shapes import DEEP, SMALL

from limbeck.activations import Activations
from limbeck.errors import ObjectiveError
from limbeck.models.shapes import Shape
from limbeck.objectives.attention_scores import AttentionScores
from limbeck.objectives.embeddings import Embeddings
from limbeck.objectives.hidden_states import HiddenStates
from limbeck.objectives.mean_hidden_states import MeanHiddenStates
from limbeck.objectives.qkv import Qkv
from limbeck.objectives.relations import Relations, repeat_heads
from limbeck.student.projections import Projections

# Decoders whose query heads share their keys: 4 heads of 4 over 2, and 4 heads of 6 over 1.
NARROW_KEYS = Shape(2, 16, 4, 32, 200, 80, num_key_value_heads=2, causal=True)
ONE_KEY = Shape(4, 24, 4, 48, 200, 80, num_key_value_heads=1, causal=True)


def states(layers, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(4, 12, width, generator=generator) for n in range(layers)}


def activations(shape, seed):
    return Activations(
        embeddings=states(1, shape.hidden_size, seed)[0],
        hidden=states(shape.num_hidden_layers, shape.hidden_size, seed + 1),
        queries=states(shape.num_hidden_layers, shape.query_width, seed + 2),
        keys=states(shape.num_hidden_layers, shape.key_width, seed + 3),
        values=states(shape.num_hidden_layers, shape.key_width, seed + 4),
    )


def measured(objective, student=SMALL, teacher=DEEP):
    """The objective's total and its projections on the same random states."""
    assert objective.problems_with(student, teacher) == []
    bound = objective.bound(student, teacher)
    projections = Projections(bound.projection_sizes(student, teacher), seed=0)
    batch = make_batch()
    total = bound.total(activations(student, 0), activations(teacher, 10), batch, projections)
    return (
        float(total.detach()),
        projections.maps,
        [tuple(at) for at in batch.student.mask.nonzero().tolist()],
    )


def squares(left, right):
    return float(((left - right) ** 2).mean().detach())


def test_joined_teacher_layers():
    """uniform+top of 2 and 4 layers: layer 0 learns from 1 and 2, layer 1 from 3."""
    total, maps, places = measured(HiddenStates(layers="uniform+top"))
    student, teacher = activations(SMALL, 0).hidden, activations(DEEP, 10).hidden
    expected = 0.0
    for at in places:
        first = maps["hidden_0_to_1_2"].weight[0] @ student[0][at]
        expected += squares(first, torch.cat([teacher[1][at], teacher[2][at]]))
        expected += squares(maps["hidden_1_to_3"].weight[0] @ student[1][at], teacher[3][at])
    assert total == pytest.approx(expected, rel=1e-5)


def test_averaged_teacher_layers():
    total, maps, places = measured(HiddenStates(layers="uniform-consecutive"))
    student, teacher = activations(SMALL, 0).hidden, activations(DEEP, 10).hidden
    expected = 0.0
    for at in places:
        for mine, theirs in ((0, (0, 1)), (1, (2, 3))):
            target = (teacher[theirs[0]][at] + teacher[theirs[1]][at]) / 2
            name = f"hidden_{mine}_to_{theirs[0]}_{theirs[1]}"
            expected += squares(maps[name].weight[0] @ student[mine][at], target)
    assert total == pytest.approx(expected, rel=1e-5)


def test_one_map_for_all_pairs():
    total, maps, places = measured(
        HiddenStates(layers="uniform+top", combine="each", projection="shared")
    )
    (shared,) = maps.values()
    student, teacher = activations(SMALL, 0).hidden, activations(DEEP, 10).hidden
    expected = sum(
        squares(shared.weight[0] @ student[mine][at], teacher[theirs][at])
        for at in places
        for mine, theirs in ((0, 1), (0, 2), (1, 3))
    )
    assert total == pytest.approx(expected, rel=1e-5)


def test_cosine():
    total, maps, places = measured(HiddenStates(layers="last", measure="cosine"))
    student, teacher = activations(SMALL, 0).hidden[1], activations(DEEP, 10).hidden[3]
    expected = 0.0
    for at in places:
        mapped, target = maps["hidden_1_to_3"].weight[0] @ student[at], teacher[at]
        expected += 1 - float((mapped @ target / mapped.norm() / target.norm()).detach())
    assert total == pytest.approx(expected, rel=1e-5)


def test_layer_maps_with_the_same_links_are_equal():
    same = [HiddenStates(layers=n).bound(SMALL, SMALL) for n in ("uniform", "top", "uniform+top")]
    assert same[0] == same[1] == same[2] == HiddenStates(layers=[0, 1]).bound(SMALL, SMALL)


def test_embeddings():
    total, maps, places = measured(Embeddings())
    student, teacher = activations(SMALL, 0).embeddings, activations(DEEP, 10).embeddings
    weight = maps["embeddings"].weight[0]
    expected = sum(squares(weight @ student[at], teacher[at]) for at in places)
    assert total == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ObjectiveError, match="need the embedding output"):
        Embeddings().total(Activations(), Activations(), make_batch(), Projections({}, seed=0))


@pytest.mark.parametrize("trained", [True, False])
def test_means_over_all_layers(trained):
    total, maps, places = measured(MeanHiddenStates(trainable=trained))
    weight = maps["mean_hidden"].weight[0]
    expected = 0.0
    for at in places:
        means = []
        for shape, seed in ((SMALL, 0), (DEEP, 10)):
            found = activations(shape, seed)
            states = [found.embeddings[at], *(state[at] for state in found.hidden.values())]
            means.append(sum(states) / (shape.num_hidden_layers + 1))
        expected += squares(weight @ means[0], means[1])
    assert total == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ObjectiveError, match="need"):
        MeanHiddenStates().total(
            Activations(), Activations(), make_batch(), Projections({}, seed=0)
        )


def test_an_untrained_map_gets_no_gradient():
    bound = MeanHiddenStates(trainable=False).bound(SMALL, DEEP)
    projections = Projections(bound.projection_sizes(SMALL, DEEP), seed=0)
    student = activations(SMALL, 0)
    student.hidden[0].requires_grad_()
    bound.total(student, activations(DEEP, 10), make_batch(), projections).backward()
    assert student.hidden[0].grad is not None and student.hidden[0].grad.any()
    assert all(weight.grad is None for weight in projections.parameters())


@pytest.mark.parametrize("shapes", [(SMALL, DEEP), (NARROW_KEYS, ONE_KEY)])
def test_qkv(shapes):
    total, maps, places = measured(Qkv(teacher_layer="last-1"), *shapes)
    student, teacher = (activations(s, n) for s, n in zip(shapes, (0, 10), strict=True))
    expected = 0.0
    for at in places:
        for kind in ("queries", "keys", "values"):
            state, target = getattr(student, kind)[1][at], getattr(teacher, kind)[2][at]
            weight = maps[f"vectors_{kind}"].weight
            heads = len(weight)
            mapped = [w @ part for w, part in zip(weight, state.chunk(heads), strict=True)]
            expected += squares(torch.cat(mapped), target)
    assert total == pytest.approx(expected, rel=1e-5)


def shared_keys(keys, shape):
    """The keys of every query head: neighbouring heads share them."""
    groups = shape.key_width // (shape.query_width // shape.num_attention_heads)
    parts = keys.chunk(groups, dim=-1)
    return torch.cat(
        [
            parts[head * groups // shape.num_attention_heads]
            for head in range(shape.num_attention_heads)
        ],
        dim=-1,
    )


@pytest.mark.parametrize("shapes", [(SMALL, DEEP), (NARROW_KEYS, ONE_KEY)])
def test_attention_scores(shapes):
    total, _, places = measured(AttentionScores(), *shapes)
    heads = math.gcd(shapes[0].num_attention_heads, shapes[1].num_attention_heads)
    expected = 0.0
    for mine, theirs in ((0, 1), (1, 3)):
        for row, place in places:
            others = [p for r, p in places if r == row and (p <= place or not shapes[0].causal)]
            total_here = 0.0
            for other in others:
                for head in range(heads):
                    scores = []
                    for shape, layer, seed in ((shapes[0], mine, 0), (shapes[1], theirs, 10)):
                        model = activations(shape, seed)
                        query = model.queries[layer][row, place].chunk(heads)[head]
                        key = shared_keys(model.keys[layer][row, other], shape).chunk(heads)[head]
                        scores.append(float(query @ key) / math.sqrt(len(query)))
                    total_here += (scores[0] - scores[1]) ** 2 / heads
            expected += total_here / len(others)
    assert total == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shapes", [(NARROW_KEYS, ONE_KEY), (SMALL, ONE_KEY)])
def test_relations_of_decoders(shapes):
    pairs = {"QQ": 1.0, "QK": 0.5, "VV": 2.0}
    objective = Relations(pairs=pairs, heads=2)
    total, _, places = measured(objective, *shapes)
    student, teacher = activations(shapes[0], 0), activations(shapes[1], 10)
    kinds = {"Q": "queries", "K": "keys", "V": "values"}
    expected = 0.0
    for pair, weight in pairs.items():
        for row, place in places:
            others = [p for r, p in places if r == row and p <= place]
            for head in range(2):
                logs = []
                for shape, model, layer in ((shapes[1], teacher, 3), (shapes[0], student, 1)):
                    left, right = (getattr(model, kinds[letter])[layer] for letter in pair)
                    if pair == "QK":
                        right = shared_keys(right, shape)
                    mine = left[row, place].chunk(2)[head]
                    scores = torch.stack(
                        [mine @ right[row, p].chunk(2)[head] / len(mine) ** 0.5 for p in others]
                    )
                    logs.append(torch.log_softmax(scores, -1))
                p, q = logs
                expected += weight * float((p.exp() * (p - q)).sum()) / 2
    assert total == pytest.approx(expected, rel=1e-4)


def test_heads_are_repeated_as_decoders_share_them():
    keys = torch.arange(6.0).reshape(1, 1, 6)
    repeated = repeat_heads(keys, 12, 3)
    assert repeated[0, 0].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]
    assert repeat_heads(keys, 6, 3) is keys


@pytest.mark.parametrize(
    ("objective", "field", "message"),
    [
        (AttentionScores(layers="0:4"), "layers", "the teacher's layer 4 is no layer"),
        (AttentionScores(heads=3), "heads", "use one of [1, 2, 4, 8]"),
        (Qkv(heads=3), "heads", "use one of [1, 2, 4, 8]"),
        (Qkv(student_layer=2), "student_layer", "use 0 to 1"),
        (HiddenStates(layers="0:1,0:2"), "layers", "more than once"),
    ],
)
def test_problems_name_their_field(objective, field, message):
    ((where, what),) = objective.problems_with(SMALL, DEEP)
    assert where == field and message in what


@pytest.mark.parametrize("kind", [AttentionScores, Qkv, Embeddings, HiddenStates])
def test_a_teacher_is_needed(kind):
    assert "needs a teacher" in kind().problems_with(SMALL, None)[0][1]
    with pytest.raises(ObjectiveError, match="needs a teacher"):
        kind().bound(SMALL, None)
