"""What a student of a task has learned of its teacher: agreement, flips and calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .tables import Table

_MOST_FLIPS = 12  # labels in the table: those with the most


@dataclass(frozen=True)
class Interval:
    """A score on the rows themselves, and the 95 % of scores on redrawn rows around it."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Sureness:
    """How well the probabilities of a model are calibrated, as they are and with a temperature.

    Attributes:
        ece: Expected calibration error.
        brier: Brier score, summed over classes.
        temperature: That makes the held-out rows most likely.
        ece_scaled: Expected calibration error with that temperature.
        brier_scaled: Brier score with that temperature.
    """

    ece: float
    brier: float
    temperature: float
    ece_scaled: float
    brier_scaled: float


@dataclass(frozen=True)
class Flips:
    """Where student and teacher differ on the rows (or words) of one label.

    Of a label that may hold beside others, on all rows: it may be given wrongly, too.

    Attributes:
        label: The right one.
        rows: How many have it.
        lost: The teacher is right, and the student is not.
        gained: The student is right, and the teacher is not.
    """

    label: str
    rows: int
    lost: int
    gained: int


@dataclass(frozen=True)
class TaskAnswers:
    """What models with the head of a task say of its scored rows.

    Attributes:
        task: Its name.
        unit: What one answer is of: a row or a word.
        agreement: Share of answers that student and teacher have in common, or the correlation of
            their numbers; None without a teacher.
        sureness: Of the models whose classes are known, by role.
        flips: By label, most first.
        verdict: Whether the distillation was worth it, in a sentence or two.
        rankings: Where rows are documents of queries, how well each role ranks them: nDCG@10 and
            the reciprocal rank of the first relevant one, averaged over queries. Else empty.
    """

    task: str
    unit: str
    agreement: float | None
    sureness: Mapping[str, Sureness]
    flips: Sequence[Flips]
    verdict: str
    rankings: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, with the keys of report.json."""
        plain = asdict(self)
        if not self.rankings:
            del plain["rankings"]
        return plain

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "TaskAnswers":
        """The same from report.json."""
        sureness = {role: Sureness(**found) for role, found in plain["sureness"].items()}
        flips = [Flips(**found) for found in plain["flips"]]
        rankings = {
            role: {name: Interval(**score) for name, score in scores.items()}
            for role, scores in plain.get("rankings", {}).items()
        }
        given = {"sureness": sureness, "flips": flips, "rankings": rankings}
        return TaskAnswers(**{**plain, **given})


def task_tables(found: TaskAnswers | None, roles: Mapping[str, str]) -> list[tuple[str, Table]]:
    """The tables of a task's answers, with headings; the first row of each is its head.

    Args:
        found: None where no task was learned.
        roles: How each role is called.
    """
    if found is None:
        return []
    sure: Table = [
        ["", "ECE", "Brier", "temperature", "ECE with it", "Brier with it"],
        *(
            [
                roles[role],
                f"{100 * one.ece:.1f}",
                f"{one.brier:.3f}",
                f"{one.temperature:.2f}",
                f"{100 * one.ece_scaled:.1f}",
                f"{one.brier_scaled:.3f}",
            ]
            for role, one in found.sureness.items()
        ),
    ]
    shown = [flip for flip in found.flips if flip.lost or flip.gained][:_MOST_FLIPS]
    flips: Table = [
        [
            "label",
            f"{found.unit}s with it",
            "only the teacher is right",
            "only the student is right",
        ],
        *([flip.label, str(flip.rows), str(flip.lost), str(flip.gained)] for flip in shown),
    ]
    agreement: Table = [["", ""]]
    if found.agreement is not None:
        agreement.append(["student and teacher agree", f"{100 * found.agreement:.1f} %"])
    ranking: Table = [
        ["", "nDCG@10", "95 % interval", "MRR", "95 % interval"],
        *(
            [roles[role], *shown_score(scores["ndcg_at_10"]), *shown_score(scores["mrr"])]
            for role, scores in found.rankings.items()
        ),
    ]
    return [
        (f"Ranking on {found.task}, by query", ranking),
        (f"Agreement on {found.task}", agreement),
        (f"Calibration on {found.task} (ECE x 100)", sure),
        (f"Flips on {found.task}", flips),
    ]


def shown_score(found: Interval) -> list[str]:
    """A score and its interval as they stand in tables."""
    return [f"{100 * found.score:.1f}", f"{100 * found.low:.1f} to {100 * found.high:.1f}"]
