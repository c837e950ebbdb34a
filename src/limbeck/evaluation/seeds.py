"""A model on a task over several seeds; finished seeds are kept, so an interrupted one goes on."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ..errors import EvaluationError
from ..files import write_text
from ..pretrained import locate
from .finetune import FinetuneSettings, SeedScore, finetune
from .tasks import Task


@dataclass(frozen=True)
class TaskScore:
    """A model on a task, over seeds."""

    task: str
    metric: str
    test_split: str
    training_rows: int
    test_rows: int
    seeds: tuple[SeedScore, ...]

    @property
    def values(self) -> list[float]:
        """The headline metric of every seed."""
        return [score.metrics[self.metric] for score in self.seeds]

    @property
    def mean(self) -> float:
        """The headline metric, averaged over seeds."""
        return mean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation of the headline metric between seeds; 0 for one seed."""
        return self.spread_of(self.values)

    @staticmethod
    def spread_of(values: Sequence[float]) -> float:
        """Standard deviation; 0 for fewer than two values."""
        return stdev(values) if len(values) > 1 else 0.0

    @staticmethod
    def joined(scores: Sequence["TaskScore"]) -> "TaskScore":
        """The seeds of several models that differ by chance alone, as those of one."""
        return replace(scores[0], seeds=tuple(seed for score in scores for seed in score.seeds))

    def means(self) -> dict[str, float]:
        """Every metric, averaged over seeds."""
        return {
            name: mean(score.metrics[name] for score in self.seeds)
            for name in self.seeds[0].metrics
        }

    def to_json(self) -> dict[str, Any]:
        """For files: everything, with mean and spread of the headline metric."""
        return {**asdict(self), "mean": self.mean, "spread": self.spread, "means": self.means()}


def evaluate_task(
    model: str,
    task: Task,
    *,
    settings: FinetuneSettings,
    seeds: Sequence[int],
    results: Path | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> TaskScore:
    """The score of a model folder on a task, over seeds.

    Args:
        model: Folder, hub name or package name.
        task: Read and, if wanted, subsampled.
        settings: The protocol.
        seeds: One fine-tuning each.
        results: A JSON file in which finished seeds are kept; those that are in
            it for the same model, rows and settings are not run again, and those
            of others stay.
        progress: Called with (seed, step, steps).

    Raises:
        EvaluationError: A loss or a prediction is not finite, a setting makes
            no sense, or ``results`` is not a file of results.
        ModelError: The model cannot be loaded.
    """
    key = _fingerprint(model, task, settings) if results else ""
    kept = _kept(results, key) if results else {}
    for seed in seeds:
        if seed not in kept:
            kept[seed] = finetune(model, task, settings=settings, seed=seed, progress=progress)
            if results:
                _keep(results, key, kept)
    return TaskScore(
        task=task.name,
        metric=task.headline,
        test_split=task.test_split,
        training_rows=len(task.train),
        test_rows=len(task.test),
        seeds=tuple(kept[seed] for seed in seeds),
    )


def _fingerprint(model: str, task: Task, settings: FinetuneSettings) -> str:
    """Names the model's files, the rows and the settings: stale results are not reused."""
    digest = hashlib.sha256(json.dumps([task.name, asdict(settings), task.test_split]).encode())
    for example in [*task.train, *task.test]:
        digest.update(repr(example).encode())
    folder = Path(locate(model))
    digest.update(model.encode() if not folder.is_dir() else b"")
    for pattern in ("*.safetensors", "config.json", "tokenizer.json", "vocab.*", "*.model"):
        for file in sorted(folder.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _all_kept(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Every finished seed in the file, by fingerprint."""
    if not results.exists():
        return {}
    try:
        saved: dict[str, list[dict[str, Any]]] = json.loads(results.read_text(encoding="utf-8"))
        for scores in saved.values():
            _ = [_restored(score) for score in scores]
    except (ValueError, TypeError, AttributeError) as error:
        raise EvaluationError(
            f"{results} is not a file of results ({type(error).__name__}: {error}); remove it, or"
            " give another place for results"
        ) from error
    return saved


def _kept(results: Path, key: str) -> dict[int, SeedScore]:
    return {score["seed"]: _restored(score) for score in _all_kept(results).get(key, [])}


def _restored(saved: Mapping[str, Any]) -> SeedScore:
    """JSON has lists where a score has tuples."""
    tags = tuple(tuple(row) for row in saved.get("tags", ()))
    return SeedScore(**{**saved, "labels": tuple(saved.get("labels", ())), "tags": tags})


def _keep(results: Path, key: str, kept: dict[int, SeedScore]) -> None:
    content = {**_all_kept(results), key: [asdict(score) for score in kept.values()]}
    write_text(results, json.dumps(content, indent=1))
