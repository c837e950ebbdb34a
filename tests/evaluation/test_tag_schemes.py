"""Tags of heads that mark the ends of spans: rows are put in their scheme, and scored as IOB2."""

import random

import numpy as np
import pytest

from limbeck.evaluation.bootstrap import redrawn_scores
from limbeck.evaluation.finetune import SeedScore
from limbeck.evaluation.metrics import tagging_metrics
from limbeck.evaluation.tag_schemes import as_iob2, in_scheme_of, task_in_scheme_of
from limbeck.evaluation.tasks import Example, Task, TaskKind

BIOES = ["O", *(f"{mark}-{kind}" for kind in ("A", "B-C") for mark in "BIES")]
BILOU = ["O", *(f"{mark}-{kind}" for kind in ("A", "B-C") for mark in "BILU")]


def drawn(chance: random.Random) -> tuple[list[str], list[str], list[str]]:
    """Spans of one to three words in IOB2, BIOES and BILOU, written out span by span."""
    rows: tuple[list[str], list[str], list[str]] = ([], [], [])
    for _ in range(chance.randint(1, 8)):
        kind, length = chance.choice(["A", "B-C", ""]), chance.randint(1, 3)
        inside = max(length - 2, 0)
        for row, marks in zip(
            rows,
            (
                "B" + "I" * (length - 1),
                "S" if length == 1 else "B" + "I" * inside + "E",
                "U" if length == 1 else "B" + "I" * inside + "L",
            ),
            strict=True,
        ):
            row += [f"{mark}-{kind}" if kind else "O" for mark in marks]
    return rows


def test_tags_go_there_and_back():
    chance = random.Random(0)
    for iob2, bioes, bilou in (drawn(chance) for _ in range(300)):
        assert in_scheme_of(BIOES, iob2) == bioes and in_scheme_of(BILOU, iob2) == bilou
        assert as_iob2(bioes) == as_iob2(bilou) == as_iob2(iob2) == iob2
        assert in_scheme_of(["O", "B-A", "I-A", "E-C", "S-C"], iob2) == iob2
    # A span ends where a word of another kind continues it, as taggers do.
    assert in_scheme_of(BIOES, ["B-A", "I-B-C", "B-A", "I-A", "I-B-C"]) == [
        "S-A",
        "E-B-C",
        "B-A",
        "E-A",
        "E-B-C",
    ]


@pytest.mark.parametrize("scheme", [1, 2])
def test_scores_are_those_of_the_same_spans_in_iob2(scheme):
    chance = random.Random(1)
    rows = [(drawn(chance), drawn(chance)) for _ in range(200)]
    rows = [(one, two) for one, two in rows if len(one[0]) == len(two[0])]
    assert len(rows) > 10
    scores = [
        tagging_metrics([one[of] for one, _ in rows], [two[of] for _, two in rows])
        for of in (0, scheme)
    ]
    assert scores[0] == scores[1] and 0 < scores[0]["span_f1"] < 1
    whole = [one for one, _ in rows]
    found = tagging_metrics([row[scheme] for row in whole], [row[0] for row in whole])
    assert found == {"span_f1": 1.0, "exact_sentence": 1.0}


@pytest.mark.parametrize("headline", ["span_f1", "exact_sentence"])
def test_redrawn_scores_are_of_the_same_spans(headline):
    chance = random.Random(2)
    pairs = [(drawn(chance), drawn(chance)) for _ in range(200)]
    pairs = [(one[1], two[1]) for one, two in pairs if len(one[0]) == len(two[0])]
    rows = [Example(words=("w",) * len(tags), tags=tuple(tags)) for tags, _ in pairs]
    task = Task("t", TaskKind.TAGGING, headline, None, rows, rows, "dev", (), tuple(BIOES))
    said = tuple(tuple(map(BIOES.index, tags)) for _, tags in pairs)
    metrics = tagging_metrics([tags for _, tags in pairs], [tags for tags, _ in pairs])
    score = SeedScore(0, metrics, 0.0, tags=said)
    found = redrawn_scores(task, {0: [score]}, np.arange(len(rows))[None])
    assert found.redrawn[0, 0] == pytest.approx(metrics[headline])


def test_a_tag_of_no_scheme_is_outside_of_spans():
    assert tagging_metrics([["PER", "B-A"]], [["O", "B-A"]])["span_f1"] == 1.0


def test_a_task_has_the_tags_of_the_head():
    rows = [Example(words=("a", "b"), tags=("B-A", "I-A"))]
    test = [*rows, Example(words=("a",), tags=("B-A",))]
    task = Task("t", TaskKind.TAGGING, "span_f1", None, rows, test, "dev", (), ("B-A", "I-A"))
    found = task_in_scheme_of(BIOES, task)
    assert found.tags == ("B-A", "E-A", "S-A") and found.test[0].tags == ("B-A", "E-A")
    assert task_in_scheme_of(["O", "B-A", "I-A"], task) is task
