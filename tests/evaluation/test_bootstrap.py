"""Scores of redrawn rows equal those of scikit-learn, scipy and seqeval on the drawn rows."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score as span_f1
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from limbeck.errors import EvaluationError
from limbeck.evaluation.bootstrap import draw_rows, redrawn_scores
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
    score = scored(headline, labels=tuple(float(n) for n in said))
    plain = {
        "accuracy": accuracy_score,
        "macro_f1": lambda e, s: f1_score(e, s, average="macro", zero_division=0.0),
        "matthews": lambda e, s: matthews_corrcoef(e, s) if np.ptp([e, s]) else 0.0,
        "f1": lambda e, s: f1_score(e, s, labels=[2], average="macro", zero_division=0.0),
    }[headline]
    return task, score, lambda rows: plain(expected[rows], said[rows])


def regression(headline, chance):
    expected, said = chance.integers(0, 6, ROWS).astype(float), chance.normal(size=ROWS)
    rows = [Example(text="x", text_pair="y", label=float(n)) for n in expected]
    task = make_task(TaskKind.REGRESSION, headline, rows)
    score = scored(headline, labels=tuple(float(n) for n in said))
    plain = {"spearman": spearmanr, "pearson": pearsonr}[headline]

    def correlation(rows):  # of a constant there is none
        return plain(expected[rows], said[rows])[0] if np.ptp(said[rows]) else 0.0

    return task, score, correlation


def several_labels(headline, chance):
    expected, said = chance.integers(0, 2, (2, ROWS, 3))
    names = [tuple(np.array(LABELS)[row == 1].tolist()) for row in expected]
    rows = [Example(text="x", label=held) for held in names]
    task = make_task(TaskKind.MULTI_LABEL, headline, rows)
    score = scored(headline, tags=tuple(tuple(np.flatnonzero(row).tolist()) for row in said))
    plain = {
        "subset_accuracy": accuracy_score,
        "micro_f1": lambda e, s: f1_score(e, s, average="micro", zero_division=0.0),
        # Labels that no drawn row has on either side do not count.
        "macro_f1": lambda e, s: f1_score(e, s, average="macro", zero_division=np.nan),
    }[headline]
    return task, score, lambda rows: plain(expected[rows], said[rows])


def tagging(headline, chance):
    sentences = [_sentence(chance) for _ in range(ROWS)]
    said = [
        list(tags) if chance.random() < 0.5 else _sentence(chance, len(tags)) for tags in sentences
    ]
    rows = [Example(words=("w",) * len(t), tags=tuple(t)) for t in sentences]
    task = make_task(TaskKind.TAGGING, headline, rows)
    score = scored(headline, tags=tuple(tuple(TAGS.index(t) for t in row) for row in said))

    def plain(drawn):
        expected, answered = ([rows[n] for n in drawn] for rows in (sentences, said))
        if headline == "exact_sentence":
            return np.mean([e == a for e, a in zip(expected, answered, strict=True)])
        return span_f1(expected, answered, mode="strict", scheme=IOB2, zero_division=0)

    return task, score, plain


def scored(headline, **answers):
    return SeedScore(0, {headline: 0.25}, 0.0, **answers)


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
        labels=LABELS if kind in (TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL) else (),
        tags=TAGS if kind is TaskKind.TAGGING else (),
        positive=positive,
    )


@pytest.mark.parametrize(
    ("make", "headline"),
    [
        *((classification, name) for name in ("accuracy", "macro_f1", "matthews", "f1")),
        *((regression, name) for name in ("spearman", "pearson")),
        *((several_labels, name) for name in ("micro_f1", "macro_f1", "subset_accuracy")),
        *((tagging, name) for name in ("span_f1", "exact_sentence")),
    ],
)
def test_redrawn_scores_are_those_of_the_drawn_rows(make, headline):
    task, score, plain = make(headline, np.random.default_rng(3))
    drawn = draw_rows(ROWS, draws=DRAWS, seed=0)
    drawn[0], drawn[1] = 0, np.arange(ROWS) % 2  # one row alone, and two
    found = redrawn_scores(task, {4: [score], 7: [score]}, drawn)
    assert found.redrawn.shape == (2, DRAWS) and found.seeds == (4, 7) and found.rows == ROWS
    np.testing.assert_allclose(found.redrawn[0], [plain(rows) for rows in drawn], atol=1e-9)
    np.testing.assert_array_equal(found.redrawn[0], found.redrawn[1])
    np.testing.assert_array_equal(found.observed, [0.25, 0.25])
    assert found.counted == (headline not in ("spearman", "pearson"))


def test_fine_tunings_of_one_training_are_averaged():
    task, score, _ = classification("accuracy", np.random.default_rng(0))
    said = tuple(float(LABELS.index(str(row.label))) for row in task.test)
    right = SeedScore(1, {"accuracy": 1.0}, 0.0, labels=said)
    drawn = draw_rows(ROWS, draws=DRAWS, seed=0)
    both = redrawn_scores(task, {0: [score, right]}, drawn)
    alone = redrawn_scores(task, {0: [score], 1: [right]}, drawn)
    np.testing.assert_allclose(both.redrawn, alone.redrawn.mean(0, keepdims=True))
    np.testing.assert_allclose(both.observed, [0.625])


def test_predictions_that_were_not_kept():
    task, _, _ = classification("accuracy", np.random.default_rng(0))
    with pytest.raises(EvaluationError, match="kept without the predictions; remove the file"):
        redrawn_scores(task, {0: [SeedScore(0, {}, 0.0)]}, draw_rows(ROWS, draws=3, seed=0))
