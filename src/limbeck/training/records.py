"""The records of a run in log.jsonl."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..system.files import write_text
from .checkpoint import Position


@dataclass(frozen=True)
class RunLog:
    """A run's log.jsonl, with one JSON object per line."""

    path: Path

    def drop_after(self, position: Position) -> None:
        """Drop the records of steps after a checkpoint: the resumed run writes them again."""
        place = (position.stage, position.step)
        kept = [
            record
            for record in self.records()
            if (here := (record["stage_number"], record["step"])) < place
            or (here == place and position.step > 0)
        ]
        write_text(self.path, "".join(_line(record) for record in kept))

    def write(self, record: Mapping[str, Any]) -> None:
        """Add one record; it is on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(record))

    def records(self) -> list[dict[str, Any]]:
        """All complete records so far, in order."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").split("\n"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # an incomplete line, because the process was killed
        return found

    def machine(self) -> dict[str, Any] | None:
        """The last record that names the device of the run; None where there is none."""
        return next((record for record in reversed(self.records()) if "device" in record), None)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def step_facts(means: Mapping[str, float], tokens_per_second: float) -> str:
    """The text of the progress bar for a training step.

    >>> step_facts({"relations": 0.51234}, 12000.0)
    '12,000 tokens/s  relations 0.5123'
    """
    values = [f"{name} {value:.4g}" for name, value in means.items()]
    return "  ".join([f"{tokens_per_second:,.0f} tokens/s", *values])


def flattened(record: Mapping[str, object]) -> dict[str, object]:
    """The numbers of a record, for trackers; those of a mapping as ``name/inner``.

    >>> flattened({"stage": "transfer", "step": 3, "objectives": {"labels": 2.5}})
    {'step': 3, 'objectives/labels': 2.5}
    """
    flat: dict[str, object] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{inner}": number for inner, number in value.items()}
        elif isinstance(value, (int, float)):
            flat[name] = value
    return flat


@dataclass
class Window:
    """Sums over the steps since the last record."""

    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    flops: int = 0

    def add(self, means: Mapping[str, float], tokens: int) -> None:
        """Add one step; its seconds are added where they are spent."""
        for name, value in means.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps, self.tokens = self.steps + 1, self.tokens + tokens

    @property
    def tokens_per_second(self) -> float:
        """Over the steps so far."""
        return self.tokens / self.seconds

    @property
    def flops_per_second(self) -> float:
        """The operations of the models, over the steps so far."""
        return self.flops / self.seconds

    def facts(self, weights: Mapping[str, float]) -> dict[str, object]:
        """Means over the steps: the weighted loss, and each objective unweighted."""
        means = {name: value / self.steps for name, value in self.sums.items()}
        return {
            "loss": sum(weights[name] * value for name, value in means.items()),
            "objectives": means,
            "tokens_per_second": self.tokens_per_second,
        }
