import pytest

from limbeck.errors import ObjectiveError
from limbeck.objectives.layer_mapping import NAMED_MAPS, bound_links, layer_links


def links(name, student, teacher):
    return {link.student: list(link.teachers) for link in layer_links(name, student, teacher)}


@pytest.mark.parametrize(
    ("name", "student", "teacher", "expected"),
    [
        # Computed from the formulas with layers from 1, minus one.
        ("uniform", 3, 12, {0: [3], 1: [7], 2: [11]}),
        ("uniform", 4, 6, {0: [1], 1: [2], 2: [4], 3: [5]}),
        ("top", 3, 12, {0: [9], 1: [10], 2: [11]}),
        ("uniform-consecutive", 3, 12, {0: [0, 1, 2, 3], 1: [4, 5, 6, 7], 2: [8, 9, 10, 11]}),
        ("uniform-consecutive", 4, 6, {0: [0, 1], 1: [2, 3], 2: [4, 5], 3: [5]}),
        ("uniform+top", 3, 12, {0: [3, 9], 1: [7, 10], 2: [11]}),
        ("skip", 3, 12, {0: [3], 1: [7]}),
        ("last", 3, 12, {2: [11]}),
        ("last-2", 3, 12, {2: [9]}),
        ("0:4, 2:last-1", 3, 12, {0: [4], 2: [10]}),
        ({"last": [3, 7], 0: 1}, 3, 12, {0: [1], 2: [3, 7]}),
        ({"0": 1, "last": "last-1"}, 3, 12, {0: [1], 2: [10]}),  # keys of JSON are strings
        ([1, 5, "last"], 3, 12, {0: [1], 1: [5], 2: [11]}),
        ("uniform", 4, 2, {0: [0], 1: [0], 2: [1], 3: [1]}),
        ("top", 4, 2, {2: [0], 3: [1]}),
        ([0, 0, 1], 3, 2, {0: [0], 1: [0], 2: [1]}),  # a deeper student names a layer twice
    ],
)
def test_maps(name, student, teacher, expected):
    found = links(name, student, teacher)
    assert found == expected and list(found) == sorted(found)


@pytest.mark.parametrize("name", sorted(NAMED_MAPS))
def test_named_maps_fit_models_of_any_depth(name):
    for student in range(1, 14):
        for teacher in range(1, 26):
            found = links(name, student, teacher)
            assert set(found) <= set(range(student))
            assert all(
                t and t == sorted(set(t)) and 0 <= t[0] <= t[-1] < teacher for t in found.values()
            )
            if name not in ("skip", "uniform-consecutive"):
                assert teacher - 1 in found[student - 1]
            if name == "uniform-consecutive" and student <= teacher:
                assert {t for several in found.values() for t in several} == set(range(teacher))
            if name != "skip" and student == teacher:
                assert found == {n: [n] for n in range(student)}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("0:0,3:1", "the student's layer 3 is no layer of a model with 3 layers; use 0 to 2"),
        ("0:12", "the teacher's layer 12 is no layer .* use 0 to 11 .*embedding output is not"),
        ("0:-1", "the teacher's layer -1 is no layer"),
        ("last-12", "the teacher's layer 'last-12' is no layer"),
        ("uniform-top", "no layer map is called 'uniform-top'; use uniform, top"),
        ("0:1,0:2", "names layer 0 of the student more than once"),
        ("0:1,1:1", "names layer 1 of the teacher more than once"),
        ({0: [1, 1]}, "names layer 1 of the teacher more than once"),
        ({0: []}, "has no teacher layer"),
        ({}, "has no teacher layer"),
        ("0:1,,2:3", "'' in the layer map .* is no pair"),
        ("0:1,2", "'2' in the layer map .* is no pair"),
        ([0, 1], "names 2 teacher layers for 3 student layers"),
    ],
)
def test_maps_that_cannot_be(layers, message):
    with pytest.raises(ObjectiveError, match=message):
        layer_links(layers, 3, 12)


def test_only_written_out_maps_are_bound():
    with pytest.raises(ObjectiveError, match="call `bound` first"):
        bound_links("uniform")
    assert bound_links(dict(layer_links("top", 2, 4))) == layer_links("top", 2, 4)
