"""Scores of redrawn rows equal those of scikit-learn, scipy and seqeval on the drawn rows."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score as span_f1
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from limbeck.errors import EvaluationError
from limbeck.evaluation.bootstrap import difference, draw_rows, redrawn_scores
from limbeck.evaluation.finetune import SeedScore
from limbeck.evaluation.tasks import Example, Task, TaskKind

ROWS, DRAWS = 40, 30
LABELS = ("no", "so-so", "yes")
TAGS = ("O", "B-a", "I-a", "B-b", "I-b")


def classification(headline, chance):
    expected, said = chance.integers(0, 3, ROWS), chance.integers(0, 3, ROWS)
    rows = [Example(text="x", label=LABELS[n]) for n in expected]
    positive = "yes" if headline == "f1" else None
    task = make_task(TaskKind.CLASSIFICATION, headline, rows, positive)
    score = SeedScore(0, {}, 0.0, labels=tuple(float(n) for n in said))
    plain = {
        "accuracy": accuracy_score,
        "macro_f1": lambda e, s: f1_score(e, s, average="macro", zero_division=0.0),
        "matthews": matthews_corrcoef,
        "f1": lambda e, s: f1_score(e, s, labels=[2], average="macro", zero_division=0.0),
    }[headline]
    return task, score, lambda rows: plain(expected[rows], said[rows])


def regression(headline, chance):
    expected, said = chance.integers(0, 6, ROWS).astype(float), chance.normal(size=ROWS)
    rows = [Example(text="x", text_pair="y", label=float(n)) for n in expected]
    task = make_task(TaskKind.REGRESSION, headline, rows)
    score = SeedScore(0, {}, 0.0, labels=tuple(float(n) for n in said))
    plain = {"spearman": spearmanr, "pearson": pearsonr}[headline]
    return task, score, lambda rows: plain(expected[rows], said[rows])[0]


def tagging(headline, chance):
    sentences = [_sentence(chance) for _ in range(ROWS)]
    said = [
        list(tags) if chance.random() < 0.5 else _sentence(chance, len(tags)) for tags in sentences
    ]
    rows = [Example(words=("w",) * len(t), tags=tuple(t)) for t in sentences]
    task = make_task(TaskKind.TAGGING, headline, rows)
    score = SeedScore(0, {}, 0.0, tags=tuple(tuple(TAGS.index(t) for t in row) for row in said))

    def plain(drawn):
        expected, answered = ([rows[n] for n in drawn] for rows in (sentences, said))
        if headline == "exact_sentence":
            return np.mean([e == a for e, a in zip(expected, answered, strict=True)])
        return span_f1(expected, answered, mode="strict", scheme=IOB2, zero_division=0)

    return task, score, plain


def _sentence(chance, length=None):
    tags = []
    for _ in range(length or chance.integers(2, 9)):
        tag = TAGS[chance.integers(0, 5)]
        if tag[0] == "I" and (not tags or tags[-1][1:] != tag[1:]):
            tag = "B" + tag[1:]
        tags.append(tag)
    return tags


def make_task(kind, headline, rows, positive=None):
    return Task(
        name="toy",
        kind=kind,
        headline=headline,
        train=rows,
        test=rows,
        test_split="test",
        labels=LABELS if kind is TaskKind.CLASSIFICATION else (),
        tags=TAGS if kind is TaskKind.TAGGING else (),
        positive=positive,
    )


@pytest.mark.parametrize(
    ("make", "headline"),
    [
        *((classification, name) for name in ("accuracy", "macro_f1", "matthews", "f1")),
        *((regression, name) for name in ("spearman", "pearson")),
        *((tagging, name) for name in ("span_f1", "exact_sentence")),
    ],
)
def test_redrawn_scores_are_those_of_the_drawn_rows(make, headline):
    task, score, plain = make(headline, np.random.default_rng(3))
    drawn = draw_rows(ROWS, draws=DRAWS, seed=0)
    found = redrawn_scores(task, [score, score], drawn)
    assert found.shape == (2, DRAWS)
    np.testing.assert_allclose(found[0], [plain(rows) for rows in drawn], atol=1e-9)
    np.testing.assert_array_equal(found[0], found[1])


def test_answers_that_were_not_kept():
    task, _, _ = classification("accuracy", np.random.default_rng(0))
    with pytest.raises(EvaluationError, match="kept without the answers; remove the file"):
        redrawn_scores(task, [SeedScore(0, {}, 0.0)], draw_rows(ROWS, draws=3, seed=0))


def test_a_difference_that_rows_share_is_sure_and_chance_is_not():
    chance = np.random.default_rng(0)
    task, _, _ = classification("accuracy", chance)
    labels = np.array([LABELS.index(str(row.label)) for row in task.test], float)
    drawn = draw_rows(ROWS, draws=500, seed=0)

    def scores(wrong):
        said = labels.copy()
        said[wrong] = (said[wrong] + 1) % 3
        return {"toy": redrawn_scores(task, [SeedScore(0, {}, 0.0, labels=tuple(said))], drawn)}

    # Wrong where the other is wrong, and on a quarter of the rows besides.
    worse, better = scores(list(range(20))), scores(list(range(10)))
    sure = difference(better, worse, observed=0.25, seed=0)
    assert sure.mean == 0.25 and 0.1 < sure.low < 0.25 < sure.high < 0.4 and sure.p < 0.01
    # Wrong as often, elsewhere.
    elsewhere = difference(
        scores(list(range(10))), scores(list(range(20, 30))), observed=0.0, seed=0
    )
    assert elsewhere.low < 0 < elsewhere.high and elsewhere.p > 0.5
    same = difference(worse, worse, observed=0.0, seed=0)
    assert same == (0.0, 0.0, 0.0, 1.0)


def test_seeds_that_differ_widen_the_interval():
    steady = {"toy": np.full((3, 400), 0.5)}
    spread = {"toy": np.array([[0.4], [0.5], [0.6]]) * np.ones((1, 400))}
    narrow = difference(steady, steady, observed=0.0, seed=0)
    wide = difference(spread, steady, observed=0.0, seed=0)
    assert narrow.high - narrow.low == 0.0
    assert wide.high - wide.low > 0.1


def test_what_a_seed_does_to_both_models_cancels_out():
    lucky = np.array([[0.3], [0.5], [0.7]]) * np.ones((1, 400))
    better = {"toy": lucky + 0.01, "other": 0.5 * lucky + 0.01}
    found = difference(better, {"toy": lucky, "other": 0.5 * lucky}, observed=0.01, seed=0)
    assert (found.low, found.high) == pytest.approx((0.01, 0.01)) and found.p == 0.0
    # A control with fewer trainings so far has none to stand beside.
    fewer = {name: scores[:2] for name, scores in better.items()}
    apart = difference(better, fewer, observed=0.0, seed=0)
    assert apart.low < -0.01 < 0.01 < apart.high
