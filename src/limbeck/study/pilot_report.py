"""What a pilot says: a table of its trainings, what the whole one would reach, and a verdict."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..reports.report import markdown_table
from ..reports.tables import Table
from .extrapolation import Extrapolation, extrapolate

Verdict = Literal["yes", "no", "cannot be told"]
_STUDENT = "student"
_CORRELATIONS = ("matthews", "pearson", "spearman")  # may be below 0


@dataclass(frozen=True)
class Measured:
    """A short training.

    Attributes:
        share: Of the steps of the recipe.
        seed: Counted from that of the recipe.
        before: The weighted loss of its last stage on held-out text or rows, before its first step.
        loss: The same at its end; None where it is not finite.
        task: That the student is scored on; empty without one.
        metric: Of the score.
        score: A share of 1; None without a task.
        teacher: The teacher's score; of one training of a pilot.
        baseline: That of the recipe's own baseline.
    """

    share: float
    seed: int
    before: float | None
    loss: float | None
    task: str = ""
    metric: str = ""
    score: float | None = None
    teacher: float | None = None
    baseline: float | None = None


@dataclass(frozen=True)
class PilotResult:
    """All that a pilot says.

    Attributes:
        name: Of the recipe.
        keep: The share of its teacher's score that a student is worth training for.
        measured: The trainings of every arm.
        losses: What the whole training of an arm would reach on held-out text or rows.
        scores: The same of its score.
        verdict: Whether the whole training is worth its time.
        reasons: Why, in sentences.
    """

    name: str
    keep: float
    measured: dict[str, list[Measured]]
    losses: dict[str, Extrapolation | None]
    scores: dict[str, Extrapolation | None]
    verdict: Verdict
    reasons: list[str]

    @property
    def teacher(self) -> float | None:
        """The teacher's score."""
        found = (one.teacher for one in self.measured[_STUDENT])
        return next((score for score in found if score is not None), None)


def pilot_result(
    name: str, measured: Mapping[str, Sequence[Measured]], *, keep: float
) -> PilotResult:
    """What the trainings of a pilot say.

    Args:
        name: Of the recipe.
        measured: The trainings of every arm, the student's first.
        keep: The share of its teacher's score that a student is worth training for.
    """
    arms = {arm: list(trainings) for arm, trainings in measured.items()}
    losses = {arm: _law(some, [one.loss for one in some]) for arm, some in arms.items()}
    lacking = {arm: _law(some, [_lacks(one) for one in some]) for arm, some in arms.items()}
    least = -1.0 if arms[_STUDENT][0].metric in _CORRELATIONS else 0.0
    scores = {arm: _as_score(law, least) for arm, law in lacking.items()}
    result = PilotResult(name, keep, arms, losses, scores, "no", [])
    verdict, reasons = _judged(result)
    return replace(result, verdict=verdict, reasons=reasons)


def _judged(result: PilotResult) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons: what the student learns, keeps of its teacher, and gains."""
    trainings = result.measured[_STUDENT]
    if all(
        one.loss is None or (one.before is not None and one.loss >= one.before) for one in trainings
    ):
        return "no", [
            "no short training lowered the loss on held-out text or rows; another learning rate"
            " or objective is needed first"
        ]
    score, teacher = result.scores[_STUDENT], result.teacher
    if all(one.score is None for one in trainings):
        return "cannot be told", [
            "no task is named, and a loss alone does not say whether a student is good enough;"
            " name one (evaluation.tasks)"
        ]
    if score is None or not score.falls:
        return "cannot be told", [
            "the scores of the short trainings do not rise by more than chance; give larger"
            " budgets, more seeds, or a task with more scored rows"
        ]
    verdicts, reasons = [], []
    if teacher is not None:
        verdict, reason = _against(
            score, result.keep * teacher, f"{result.keep:.0%} of the teacher"
        )
        verdicts.append(verdict)
        reasons.append(reason)
    for arm, law in result.scores.items():
        if arm != _STUDENT:
            verdict, reason = _ahead(score, law, arm)
            verdicts.append(verdict)
            reasons.append(reason)
    if not verdicts:
        return "cannot be told", [
            "there is neither a teacher's score nor a control to compare with"
        ]
    if "no" in verdicts:
        return "no", reasons
    return ("yes" if set(verdicts) == {"yes"} else "cannot be told"), reasons


def _against(score: Extrapolation, wanted: float, what: str) -> tuple[Verdict, str]:
    said = f"the whole training is expected to score {_interval(score)}; {what} is {wanted:.3f}"
    if score.low >= wanted:
        return "yes", f"{said}, which lies below the interval"
    if score.high < wanted:
        return "no", f"{said}, which lies above the interval"
    return "cannot be told", f"{said}, which lies within the interval"


def _ahead(score: Extrapolation, control: Extrapolation | None, arm: str) -> tuple[Verdict, str]:
    if control is None:
        return "cannot be told", f"too little was measured of {arm}"
    said = f"{arm} would score {_interval(control)}"
    if score.low > control.high:
        return "yes", f"{said}, below the student's interval"
    if score.high < control.low:
        return "no", f"{said}, above the student's interval"
    return "cannot be told", f"{said}; the two intervals overlap"


def _law(trainings: Sequence[Measured], values: Sequence[float | None]) -> Extrapolation | None:
    known = [(one.share, v) for one, v in zip(trainings, values, strict=True) if v is not None]
    if len(known) < len(trainings):
        return None
    return extrapolate([share for share, _ in known], [value for _, value in known])


def _lacks(one: Measured) -> float | None:
    return None if one.score is None else 1.0 - one.score


def _as_score(law: Extrapolation | None, least: float) -> Extrapolation | None:
    """What a score lacks of 1, as the score, which is never below the least one that there is."""
    if law is None:
        return None
    low = max(least, 1 - law.high)
    return Extrapolation(
        1 - law.value, low, 1 - law.low, 1 - law.floor, law.rate, law.falls, law.points
    )


def _interval(law: Extrapolation) -> str:
    return f"{law.value:.3f} ({law.low:.3f} to {law.high:.3f})"


def pilot_tables(result: PilotResult) -> list[tuple[str, Table]]:
    """The trainings and what they say of the whole one, as tables with headings."""
    first = result.measured[_STUDENT][0]
    scored = first.metric or "score"
    rows: Table = [["arm", "share of steps", "seed", "held-out loss", scored]]
    for arm, trainings in result.measured.items():
        rows += [
            [arm, f"{one.share:.3g}", str(one.seed), _number(one.loss), _number(one.score)]
            for one in trainings
        ]
    if result.teacher is not None:
        rows.append(["teacher", "", "", "", _number(result.teacher)])
    whole: Table = [["arm", "of the whole training", "expected", "95 % interval", "improves"]]
    for what, laws in (("held-out loss", result.losses), (scored, result.scores)):
        for arm, law in laws.items():
            if law:
                interval = f"{law.low:.4g} to {law.high:.4g}"
                proven = "yes" if law.falls else "not proven"
                whole.append([arm, what, f"{law.value:.4g}", interval, proven])
    return [("Short trainings", rows), ("The whole training, by a power law", whole)]


def pilot_markdown(result: PilotResult) -> str:
    """The same as a page."""
    name = html.escape(result.name, quote=False)
    lines = [f"# Pilot of {name}", "", f"Worth the whole training: **{result.verdict}**", ""]
    lines += [f"- {reason}" for reason in result.reasons]
    for heading, table in pilot_tables(result):
        lines += ["", f"## {heading}", "", *markdown_table(table)[:-1]]
    return "\n".join(lines).rstrip() + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
