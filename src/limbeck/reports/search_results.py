"""How learning rate and length of a model's fine-tuning were chosen; fields are keys of JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def rank_of(score: float | None, loss: float | None) -> tuple[float, float]:
    """What the trainings of a search are ordered by: the score, then the lower loss.

    >>> rank_of(0.9, 0.4) > rank_of(0.9, 0.5) > rank_of(None, None)
    True
    """
    worst = -float("inf")
    return worst if score is None else score, worst if loss is None else -loss


@dataclass(frozen=True)
class Trial:
    """One fine-tuning of a search.

    Attributes:
        learning_rate: The highest.
        num_train_epochs: Passes over the rows.
        score: On the validation rows, a share of 1; None where the loss was not finite.
        loss: On the validation rows; it decides between equal scores. None as for the score.
        seconds: Spent.
    """

    learning_rate: float
    num_train_epochs: float
    score: float | None
    loss: float | None
    seconds: float

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better."""
        return rank_of(self.score, self.loss)


@dataclass(frozen=True)
class SearchResult:
    """What was tried for a model on a task.

    Attributes:
        metric: Of the scores.
        learning_rates: That were to be tried, rising.
        most_epochs: The longest that could be tried.
        training_rows: Learned from in each trial.
        validation_rows: Scored in each trial; training rows of the task.
        trials: In their order.
    """

    metric: str
    learning_rates: Sequence[float]
    most_epochs: float
    training_rows: int
    validation_rows: int
    trials: Sequence[Trial]

    @property
    def chosen(self) -> Trial:
        """The best trial; of equal ones the first, which is the shortest."""
        return max(self.trials, key=lambda trial: trial.rank)

    @property
    def curve(self) -> list[tuple[float, float]]:
        """The best score of each length that was tried: epochs and score."""
        best: dict[float, float] = {}
        for trial in self.trials:
            if trial.score is not None:
                epochs = trial.num_train_epochs
                best[epochs] = max(trial.score, best.get(epochs, trial.score))
        return sorted(best.items())

    @property
    def epochs(self) -> float:
        """Passes over the rows in all trials together."""
        return sum(trial.num_train_epochs for trial in self.trials)

    def limits(self) -> list[str]:
        """Why the best may lie beyond what was tried, each reason as the end of a sentence."""
        chosen, found = self.chosen, []
        if chosen.num_train_epochs >= self.most_epochs:
            found.append(f"best after the most epochs that were tried ({self.most_epochs:g})")
        if len(self.learning_rates) > 1:
            for rate, edge in ((self.learning_rates[0], "low"), (self.learning_rates[-1], "high")):
                if chosen.learning_rate == rate:
                    found.append(f"best at the {edge}est learning rate that was tried ({rate:g})")
        return found

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "SearchResult":
        """A search as it stands in report.json."""
        return SearchResult(**{**plain, "trials": [Trial(**trial) for trial in plain["trials"]]})
