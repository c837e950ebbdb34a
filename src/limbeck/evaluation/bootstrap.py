"""Scores of a model on redrawn test rows.

Every model sees the same redrawn rows, so what is easy or hard for all of them
cancels out. Scores are computed from sums over rows weighted by how often each was
drawn, so a thousand redraws take the time of a few.

Source: paired bootstrap, Koehn 2004, "Statistical significance tests for machine
translation evaluation"; Efron and Tibshirani 1993.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from seqeval.scheme import IOB2, Entities

from ..errors import EvaluationError
from .finetune import SeedScore
from .intervals import Redrawn
from .rankings import OF_QUERIES, ranked_queries, ranking_scores
from .tag_schemes import as_iob2
from .tasks import Task, TaskKind, labels_of

Draws = Int[ndarray, "draws rows"]
_TOGETHER = 100  # redraws that are ranked at once
# Metrics whose rows are not right or wrong.
_OF_NUMBERS = ("spearman", "pearson", "rouge_l", *OF_QUERIES)


def draw_rows(rows: int, *, draws: int, seed: int) -> Draws:
    """Row numbers drawn with replacement, a row of the array for each redraw."""
    return np.random.default_rng(seed).integers(0, rows, (draws, rows))


def redrawn_scores(task: Task, by_seed: Mapping[int, Sequence[SeedScore]], drawn: Draws) -> Redrawn:
    """The headline metric of every seed, on the test rows themselves and on every redraw.

    Args:
        task: With its test rows.
        by_seed: Scores of each training seed; several fine-tunings of one training are
            averaged.
        drawn: Of the test rows. Of rankings whole queries are redrawn instead, as often and the
            same for every model.

    Raises:
        EvaluationError: The predictions of a seed were not kept with its score.
    """
    every = [score for scores in by_seed.values() for score in scores]
    if any(len(score.labels or score.tags) != len(task.test) for score in every):
        raise EvaluationError(
            f"the results on {task.name} were kept without the predictions; remove the file of"
            " results and evaluate again"
        )
    weights = np.stack([np.bincount(row, minlength=len(task.test)) for row in drawn])
    return Redrawn(
        seeds=tuple(by_seed),
        observed=np.array(
            [np.mean([s.metrics[task.headline] for s in scores]) for scores in by_seed.values()]
        ),
        redrawn=np.stack(
            [
                np.mean([_scores(task, score, drawn, weights) for score in scores], axis=0)
                for scores in by_seed.values()
            ]
        ),
        rows=_redrawn(task),
        counted=task.headline not in _OF_NUMBERS,
    )


def _redrawn(task: Task) -> int:
    """How many rows are redrawn, or queries."""
    if task.headline in OF_QUERIES:
        return len(ranked_queries(task.relevances, task.queries))
    return len(task.test)


def _scores(
    task: Task, score: SeedScore, drawn: Draws, weights: Int[ndarray, "draws rows"]
) -> Float[ndarray, " draws"]:
    metric = task.headline
    if metric in ("spearman", "pearson"):
        expected = np.array(task.relevances)
        return _correlations(np.array(score.labels), expected, weights, ranked=metric == "spearman")
    if metric in OF_QUERIES:
        values = np.array(ranking_scores(score.labels, task.relevances, task.queries)[metric])
        found: Float[ndarray, " draws"] = values[
            draw_rows(len(values), draws=len(drawn), seed=0)
        ].mean(1)
        return found
    if metric == "rouge_l":
        return weights @ np.array(score.labels) / weights.sum(1)  # type: ignore[no-any-return]
    if task.kind is TaskKind.MULTI_LABEL:
        return _of_several(task, score, weights)
    if metric == "span_f1":
        return _span_f1(task, score, weights)
    if metric == "exact_sentence":
        predicted = _predicted_tags(task, score)
        right = [as_iob2(e.tags or ()) == row for e, row in zip(task.test, predicted, strict=True)]
        return _shares(np.array(right), weights)
    places = {label: number for number, label in enumerate(task.labels)}
    expected = np.array([places[str(example.label)] for example in task.test])
    answered = np.array(score.labels, dtype=int)
    if metric in ("accuracy", "intent_accuracy"):
        return _shares(answered == expected, weights)
    return _from_confusions(task, answered, expected, weights)


def _of_several(
    task: Task, score: SeedScore, weights: Int[ndarray, "draws rows"]
) -> Float[ndarray, " draws"]:
    """Micro or macro F1, or the share of rows without error, where several labels may hold."""
    predicted, expected = np.zeros((2, len(task.test), len(task.labels)))
    for number, (row, said) in enumerate(zip(task.test, score.tags, strict=True)):
        predicted[number, list(said)] = 1
        expected[number, [task.labels.index(label) for label in labels_of(row)]] = 1
    if task.headline == "subset_accuracy":
        return _shares((predicted == expected).all(1), weights)
    right, both = weights @ (predicted * expected), weights @ (predicted + expected)
    if task.headline == "micro_f1":
        return np.array(2 * right.sum(1) / np.maximum(both.sum(1), 1))
    return _mean_f1(right, both)


def _mean_f1(
    right: Float[ndarray, "draws labels"], both: Float[ndarray, "draws labels"]
) -> Float[ndarray, " draws"]:
    """Macro F1; a label that a redraw lacks on both sides has no score and does not count."""
    f1 = 2 * right / np.maximum(both, 1)
    return np.array(f1.sum(1) / np.maximum((both > 0).sum(1), 1))


def _shares(
    right: Bool[ndarray, " rows"], weights: Int[ndarray, "draws rows"]
) -> Float[ndarray, " draws"]:
    found: Float[ndarray, " draws"] = weights @ right.astype(float) / weights.sum(1)
    return found


def _from_confusions(
    task: Task,
    answered: Int[ndarray, " rows"],
    expected: Int[ndarray, " rows"],
    weights: Int[ndarray, "draws rows"],
) -> Float[ndarray, " draws"]:
    """F1 of a label, macro F1 or Matthews correlation, from counts of (expected, answered)."""
    labels = len(task.labels)
    cells = np.zeros((len(expected), labels * labels))
    cells[np.arange(len(expected)), expected * labels + answered] = 1.0
    counts = (weights @ cells).reshape(-1, labels, labels)
    right = np.diagonal(counts, axis1=1, axis2=2)
    of_label, predicted = counts.sum(2), counts.sum(1)
    if task.headline == "matthews":
        total, hits = counts.sum((1, 2)), right.sum(1)
        above = hits * total - (of_label * predicted).sum(1)
        below = (total**2 - (of_label**2).sum(1)) * (total**2 - (predicted**2).sum(1))
        return np.where(below > 0, above / np.sqrt(np.maximum(below, 1e-12)), 0.0)
    both = of_label + predicted
    if task.headline == "f1" and task.positive is not None:
        one = task.labels.index(task.positive)
        return np.array(2 * right[:, one] / np.maximum(both[:, one], 1))
    return _mean_f1(right, both)


def _correlations(
    answered: Float[ndarray, " rows"],
    expected: Float[ndarray, " rows"],
    weights: Int[ndarray, "draws rows"],
    *,
    ranked: bool,
) -> Float[ndarray, " draws"]:
    found = []
    for start in range(0, len(weights), _TOGETHER):
        times = weights[start : start + _TOGETHER]
        left, right = (
            (_ranks(values, times) if ranked else values[None]) for values in (answered, expected)
        )
        left = left - (times * left).sum(1, keepdims=True) / times.sum(1, keepdims=True)
        right = right - (times * right).sum(1, keepdims=True) / times.sum(1, keepdims=True)
        size = np.sqrt((times * left**2).sum(1) * (times * right**2).sum(1))
        both = (times * left * right).sum(1)
        found.append(np.where(size > 0, both / np.maximum(size, 1e-30), 0.0))
    return np.concatenate(found)


def _ranks(
    values: Float[ndarray, " rows"], times: Int[ndarray, "draws rows"]
) -> Float[ndarray, "draws rows"]:
    """The rank of each value among those that were drawn, the mean rank of equal ones.

    Counted instead of sorted: a redraw has the values of the rows, each so many times.
    """
    _, first, place = np.unique(np.sort(values), return_index=True, return_inverse=True)
    order = np.argsort(values, kind="stable")
    counts = np.add.reduceat(times[:, order], first, axis=1)
    ranks = counts.cumsum(1) - counts + (counts + 1) / 2
    found = np.empty(times.shape)
    found[:, order] = ranks[:, place.reshape(-1)]
    return found


def _predicted_tags(task: Task, score: SeedScore) -> list[list[str]]:
    return [
        as_iob2([task.tags[place] if place >= 0 else "O" for place in row]) for row in score.tags
    ]


def _span_f1(
    task: Task, score: SeedScore, weights: Int[ndarray, "draws rows"]
) -> Float[ndarray, " draws"]:
    predicted = _predicted_tags(task, score)
    counts = [
        _span_counts(row, as_iob2(example.tags or ()))
        for row, example in zip(predicted, task.test, strict=True)
    ]
    right, answered, expected = (weights @ np.array(counts, float)).T
    return np.array(2 * right / np.maximum(answered + expected, 1))


def _span_counts(predicted: Sequence[str], expected: Sequence[str]) -> tuple[int, int, int]:
    """Spans of a row: (right, predicted, expected)."""
    spans = [
        {(e.tag, e.start, e.end) for row in Entities([list(tags)], IOB2).entities for e in row}
        for tags in (predicted, expected)
    ]
    return len(spans[0] & spans[1]), len(spans[0]), len(spans[1])
