"""Which teacher layers each student layer learns from: maps with names, or explicit pairs.

Source: ``skip`` is that of Sun et al. 2019, PKD, arXiv:1908.09355; ``uniform`` of
Jiao et al. 2020, TinyBERT, arXiv:1909.10351; the other maps as compared by Udagawa et al.
2023, arXiv:2310.08797. Layers count from 0 here, and from 1 in the papers' formulas; the
embedding output is not a layer.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..errors import ObjectiveError, Problem
from .layer_names import LayerName, layer_name_problems, layer_number

Some = LayerName | Sequence[LayerName]
LayerMap = str | Sequence[LayerName] | Mapping[LayerName, Some]


class Link(NamedTuple):
    """A student layer, and the teacher layers that it learns from, ascending."""

    student: int
    teachers: tuple[int, ...]


def _uniform(student: int, teacher: int) -> list[Link]:
    """The last teacher layer of each of the student's equal parts."""
    return [Link(i, (-(-(i + 1) * teacher // student) - 1,)) for i in range(student)]


def _top(student: int, teacher: int) -> list[Link]:
    """The last teacher layers, one each; the first layers of a deeper student learn nothing."""
    shift = teacher - student
    return [Link(i, (i + shift,)) for i in range(student) if i + shift >= 0]


def _uniform_and_top(student: int, teacher: int) -> list[Link]:
    """The pairs of uniform and those of top."""
    top = {link.student: link.teachers for link in _top(student, teacher)}
    return [
        Link(i, tuple(sorted({*teachers, *top.get(i, ())})))
        for i, teachers in _uniform(student, teacher)
    ]


def _uniform_consecutive(student: int, teacher: int) -> list[Link]:
    """Consecutive runs of teacher layers; the last layer is repeated where they do not suffice."""
    run = -(-teacher // student)
    return [
        Link(i, tuple(range(run * i, min(run * (i + 1), teacher))) or (teacher - 1,))
        for i in range(student)
    ]


def _skip(student: int, teacher: int) -> list[Link]:
    """Every k-th teacher layer, without one for the student's last layer."""
    step = max(1, teacher // student)
    return [Link(i, (step * (i + 1) - 1,)) for i in range(min(student - 1, teacher))]


NAMED_MAPS: dict[str, Callable[[int, int], list[Link]]] = {
    "uniform": _uniform,
    "top": _top,
    "uniform-consecutive": _uniform_consecutive,
    "uniform+top": _uniform_and_top,
    "skip": _skip,
}


def layer_links(layers: LayerMap, student: int, teacher: int) -> list[Link]:
    """The links of a map between two models with these numbers of layers.

    Args:
        layers: A name of `NAMED_MAPS`; ``last`` or ``last-k``, with which the student's last
            layer learns from that teacher layer; pairs "0:0,2:1" or
            {0: 0, last: [last-1, last]}, student first; or a list with the teacher
            layer of every student layer.
        student: Number of layers of the student.
        teacher: Number of layers of the teacher.

    Raises:
        ObjectiveError: A layer does not exist or is named twice, or a list does not name one layer
            for each student layer.

    >>> layer_links("uniform+top", 3, 6)
    [Link(student=0, teachers=(1, 3)), Link(student=1, teachers=(3, 4)), Link(student=2, \
teachers=(5,))]
    >>> layer_links("last-1", 3, 6), layer_links("0:0,2:1", 3, 6)
    ([Link(student=2, teachers=(4,))], [Link(student=0, teachers=(0,)), Link(student=2, \
teachers=(1,))])
    """
    if isinstance(layers, str) and layers in NAMED_MAPS:
        return NAMED_MAPS[layers](student, teacher)
    pairs = _explicit_pairs(layers)
    if not isinstance(layers, str | Mapping) and len(layers) != student:
        raise ObjectiveError(
            f"the list names {len(layers)} teacher layers for {student} student layers; name one"
            ' for each, or give pairs such as "0:1,2:5" to leave student layers out'
        )
    return _explicit(pairs, student, teacher)


def map_problems(layers: LayerMap) -> list[Problem]:
    """What is wrong with the option `layers` between any models: nothing, or one problem."""
    if isinstance(layers, str) and layers in NAMED_MAPS:
        return []
    try:
        _explicit_pairs(layers)
    except ObjectiveError as error:
        return [("layers", str(error))]
    return []


def _explicit_pairs(layers: LayerMap) -> list[tuple[LayerName, Some]]:
    """Student and teacher layers of a map that is not one of `NAMED_MAPS`.

    Raises:
        ObjectiveError: A name in the map is no layer of any model, or the map is empty.
    """
    if isinstance(layers, str):
        alone = ":" not in layers and "," not in layers
        pairs: list[tuple[LayerName, Some]] = [("last", layers)] if alone else _pairs(layers)
    elif isinstance(layers, Mapping):
        pairs = list(layers.items())
    else:
        pairs = list(enumerate(layers))
    for mine, theirs in pairs:
        _spelled("student", mine)
        for name in _several(theirs):
            _spelled("teacher", name)
    if not pairs or not all(_several(theirs) for _, theirs in pairs):
        raise ObjectiveError(
            "the layer map is empty, or a student layer in it has no teacher layer; name at least"
            ' one pair, as "last:last"'
        )
    return pairs


def _spelled(whose: str, name: LayerName) -> None:
    if isinstance(name, str) and not name.startswith("last") and whose == "teacher":
        raise ObjectiveError(
            f"no layer map is called {name!r}; use {', '.join(NAMED_MAPS)}, last, last-1 ...,"
            ' or pairs of student and teacher layers, as "0:0,2:1"'
        )
    for _, problem in layer_name_problems("", name):
        raise ObjectiveError(f"the {whose}'s layer {problem}")


def _several(theirs: Some) -> Sequence[LayerName]:
    return [theirs] if isinstance(theirs, (int, str)) else theirs


def _pairs(text: str) -> list[tuple[LayerName, Some]]:
    found: list[tuple[LayerName, Some]] = []
    for part in text.split(","):
        mine, colon, theirs = (side.strip() for side in part.partition(":"))
        if not (colon and mine and theirs):
            raise ObjectiveError(
                f"{part!r} in the layer map {text!r} is no pair; give student:teacher, as 0:0,2:1,"
                " layers counted from 0 without the embedding output"
            )
        found.append((_name(mine), _name(theirs)))
    return found


def _name(text: str) -> LayerName:
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else text


def _number(whose: str, name: LayerName, layers: int) -> int:
    try:
        return layer_number(name, layers)
    except ObjectiveError as error:
        raise ObjectiveError(f"the {whose}'s layer {error}") from error


def _explicit(pairs: Sequence[tuple[LayerName, Some]], student: int, teacher: int) -> list[Link]:
    links = [
        Link(
            _number("student", mine, student),
            tuple(_number("teacher", name, teacher) for name in _several(theirs)),
        )
        for mine, theirs in pairs
    ]
    whole: list[tuple[str, list[int]]] = [
        ("student", [link.student for link in links]),
        *(("teacher", list(link.teachers)) for link in links),
    ]
    if student <= teacher and all(len(link.teachers) == 1 for link in links):
        whole.append(("teacher", [link.teachers[0] for link in links]))
    for whose, named in whole:
        if twice := sorted(layer for layer, times in Counter(named).items() if times > 1):
            raise ObjectiveError(
                f"the layer map names layer {twice[0]} of the {whose} more than once (layers count"
                " from 0, without the embedding output); name each once, or give several teacher"
                " layers to one student layer as {0: [1, 3]}"
            )
    return sorted(links)


def bound_links(layers: LayerMap) -> list[Link]:
    """The links of a map that `bound` has already turned into a mapping.

    Raises:
        ObjectiveError: It is still a name.
    """
    if not isinstance(layers, Mapping):
        raise ObjectiveError("only a bound objective knows its layers; call `bound` first")
    return [
        Link(int(mine), tuple(int(layer) for layer in theirs))
        for mine, theirs in layers.items()
        if not isinstance(theirs, (int, str))
    ]


def map_problems_between(layers: LayerMap, student: int, teacher: int) -> list[Problem]:
    """The same between models of these numbers of layers."""
    try:
        layer_links(layers, student, teacher)
    except ObjectiveError as error:
        return [("layers", str(error))]
    return []
