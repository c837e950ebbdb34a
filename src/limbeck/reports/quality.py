"""Scores of a run as text: means over tasks, deviations over seeds, shares of the teacher."""

from collections.abc import Mapping
from statistics import mean
from typing import NamedTuple

from .generation import PLAIN_METRICS
from .page import ROLES, words
from .run_results import RunResult, TaskQuality
from .tables import Table

_HEADLINES = "Quality: scores × 100, ± standard deviation over seeds"
_METRICS = "Every metric × 100 (bits, perplexity and words × 1), mean over seeds"


class Scored(NamedTuple):
    """The scores of a task, or their means over all tasks, by role.

    Attributes:
        task: Its name.
        metric: The headline metric, in words.
        scores: Shares of 1.
        shown: As text, x 100 and with the deviation over seeds.
    """

    task: str
    metric: str
    scores: Mapping[str, float]
    shown: Mapping[str, str]


def mean_scores(result: RunResult) -> dict[str, float]:
    """Mean of the headline metrics over tasks, for every model that was scored on all of them."""
    tasks = [quality.scores for quality in result.quality.values()]
    scored = [role for role in ROLES if tasks and all(role in scores for scores in tasks)]
    return {role: mean(scores[role] for scores in tasks) for role in scored}


def with_mean(result: RunResult) -> list[Scored]:
    """The tasks, and after several of them their mean."""
    rows = [
        Scored(
            task,
            words(quality.metric),
            quality.scores,
            {role: score_text(quality, role) for role in quality.scores},
        )
        for task, quality in result.quality.items()
    ]
    means = mean_scores(result)
    shown = {role: _percent(score) for role, score in means.items()}
    return [*rows, Scored("mean", "", means, shown)] if len(rows) > 1 else rows


def quality_tables(result: RunResult) -> list[tuple[str, Table]]:
    """Tables of the scores, with their headings; the first row of each is its head."""
    return [(_HEADLINES, _quality_table(result)), (_METRICS, _metrics_table(result))]


def score_text(quality: TaskQuality, role: str) -> str:
    """The score of a model on a task x 100, with its deviation over several seeds."""
    score, deviation = _percent(quality.scores[role]), quality.spread.get(role)
    if deviation is None or len(quality.seeds.get(role, ())) == 1:
        return score  # one seed has no deviation: ± 0.0 would suggest certainty
    return f"{score} ± {_percent(deviation)}"


def share_of(score: float | None, whole: float | None) -> str:
    """A score as a share of another, in percent; nothing where there is no such share."""
    return f"{score / whole:.1%}" if score is not None and whole and whole > 0 else ""


def _quality_table(result: RunResult) -> Table:
    scored = with_mean(result)
    roles = [role for role in ROLES if any(role in row.scores for row in scored)]
    shared = [role for role in roles if role != "teacher" and "teacher" in roles]
    rows = [
        [row.task, row.metric]
        + [row.shown.get(role, "") for role in roles]
        + [share_of(row.scores.get(role), row.scores.get("teacher")) for role in shared]
        for row in scored
    ]
    head = ["task", "metric", *(ROLES[role] for role in roles)]
    return [head + [f"{ROLES[role]} keeps" for role in shared], *rows]


def _metrics_table(result: RunResult) -> Table:
    qualities = result.quality.values()
    roles = [role for role in ROLES if any(quality.metrics.get(role) for quality in qualities)]
    rows: Table = [["task", "metric", *(ROLES[role] for role in roles)]]
    for task, quality in result.quality.items():
        values = [quality.metrics.get(role, {}) for role in roles]
        for metric in sorted({name for found in values for name in found}):
            scale = 0.01 if metric in PLAIN_METRICS else 1.0
            found = [of_role.get(metric) for of_role in values]
            shown = ["" if x is None else _percent(scale * x) for x in found]
            rows.append([task, words(metric), *shown])
    return rows


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
