"""Scores between 0 and 1 (correlations down to -1), by scikit-learn, scipy and seqeval."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score as span_f1_score
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from sklearn.preprocessing import MultiLabelBinarizer

from .tag_schemes import as_iob2


def classification_metrics(
    predicted: Sequence[str], expected: Sequence[str], *, positive: str | None = None
) -> dict[str, float]:
    """Accuracy, macro F1, Matthews correlation, and F1 of the positive label if there is one.

    >>> classification_metrics(["a", "b"], ["a", "a"], positive="a")["f1"]
    0.6666666666666666
    """
    seen = {*predicted, *expected}
    scores = {
        "accuracy": accuracy_score(expected, predicted),
        "macro_f1": f1_score(expected, predicted, average="macro", zero_division=0),
        # One label on both sides has no correlation; scikit-learn gives 0, with a warning.
        "matthews": matthews_corrcoef(expected, predicted) if len(seen) > 1 else 0.0,
    }
    if positive is not None:
        scores["f1"] = f1_score(
            [label == positive for label in expected],
            [label == positive for label in predicted],
            zero_division=0,
        )
    return {name: float(score) for name, score in scores.items()}


def multi_label_metrics(
    predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]
) -> dict[str, float]:
    """F1 over all labels of all rows, its mean over labels, and the share of rows without error.

    Labels that neither side has do not count.

    >>> multi_label_metrics([["a", "b"], []], [["a"], []])["micro_f1"]
    0.6666666666666666
    """
    seen = sorted({label for row in [*predicted, *expected] for label in row})
    right = [{*mine} == {*theirs} for mine, theirs in zip(predicted, expected, strict=True)]
    scores = {"micro_f1": 0.0, "macro_f1": 0.0, "subset_accuracy": float(np.mean(right))}
    if not seen:
        return scores
    held = MultiLabelBinarizer(classes=seen)
    both = held.fit_transform(expected), held.transform(predicted)
    for average in ("micro", "macro"):
        scores[f"{average}_f1"] = float(f1_score(*both, average=average, zero_division=0))
    return scores


def regression_metrics(predicted: Sequence[float], expected: Sequence[float]) -> dict[str, float]:
    """Pearson and Spearman correlation; 0 where either side is constant and has none."""
    if np.ptp(predicted) == 0 or np.ptp(expected) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(predicted, expected).statistic),
        "spearman": float(spearmanr(predicted, expected).statistic),
    }


def tagging_metrics(
    predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Strict span F1 (type and both ends right), and the share of sentences without error.

    Spans are those of IOB2; tags of BIOES and BILOU are compared as such.

    >>> tagging_metrics([["B-X", "O"]], [["B-X", "B-X"]])["span_f1"]
    0.6666666666666666
    """
    predicted, expected = (list(map(as_iob2, rows)) for rows in (predicted, expected))
    right = [p == e for p, e in zip(predicted, expected, strict=True)]
    span_f1 = span_f1_score(
        expected,
        predicted,
        mode="strict",
        scheme=IOB2,
        zero_division=0,
    )
    return {"span_f1": float(span_f1), "exact_sentence": float(np.mean(right))}


def joint_metrics(
    labels: Sequence[str],
    expected_labels: Sequence[str],
    tags: Sequence[Sequence[str]],
    expected_tags: Sequence[Sequence[str]],
) -> dict[str, float]:
    """Intent accuracy, span F1, and the share of texts with intent and every tag right."""
    right = [
        label == expected and list(row) == list(expected_row)
        for label, expected, row, expected_row in zip(
            labels, expected_labels, tags, expected_tags, strict=True
        )
    ]
    return {
        "intent_accuracy": float(accuracy_score(expected_labels, labels)),
        "span_f1": tagging_metrics(tags, expected_tags)["span_f1"],
        "exact_sentence": float(np.mean(right)),
    }
