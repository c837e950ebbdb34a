"""How the values of an arm's searched fields were chosen; fields are the keys of report.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .search_results import rank_of


@dataclass(frozen=True)
class SearchTraining:
    """One training of a search.

    Attributes:
        values: Of the searched fields.
        score: On held-out rows, a share of 1; None where there is no such score, or where the
            loss was not finite.
        loss: The weighted loss on what is held out; None where it was not finite.
        run: Its folder, in the folder of the study.
    """

    values: Mapping[str, Any]
    score: float | None
    loss: float | None
    run: str

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better."""
        return rank_of(self.score, self.loss)


@dataclass(frozen=True)
class ArmSearch:
    """What was tried for an arm of a student.

    Attributes:
        arm: Its name.
        student: Name of the student.
        metric: Of the scores; None where the held-out loss decides.
        rows: Held-out rows that were scored; 0 where the loss decides.
        trainings: One for each point of the grid, in its order.
        chosen: Number of the best; of equal ones the first.
    """

    arm: str
    student: str
    metric: str | None
    rows: int
    trainings: Sequence[SearchTraining]
    chosen: int

    @property
    def best(self) -> SearchTraining:
        """The training with the chosen values."""
        return self.trainings[self.chosen]

    def limits(self) -> list[str]:
        """Where the best may lie beyond the values that were tried, in sentences."""
        return [
            f"{self.arm} ({self.student}) is best at the {edge}est {name} that was tried"
            f" ({self.best.values[name]:g}): its best may lie beyond, so search further values"
            for name in self.best.values
            if (edge := self._edge(name))
        ]

    def _edge(self, name: str) -> str | None:
        """Whether the chosen number is the lowest or the highest of several."""
        tried = {training.values[name] for training in self.trainings if _numeric(training, name)}
        if len(tried) < 2 or not _numeric(self.best, name):
            return None
        chosen = self.best.values[name]
        return "low" if chosen == min(tried) else "high" if chosen == max(tried) else None

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "ArmSearch":
        """A search as it stands in report.json."""
        trainings = [SearchTraining(**training) for training in plain["trainings"]]
        return ArmSearch(**{**plain, "trainings": trainings})


def _numeric(training: SearchTraining, name: str) -> bool:
    value = training.values[name]
    return isinstance(value, (int, float)) and not isinstance(value, bool)
