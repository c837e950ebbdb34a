"""Finished seeds of an evaluation in a JSON file, so that an interrupted one continues."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import EvaluationError
from ..models.locate import fingerprint
from ..system.files import write_text
from .finetune import SeedScore
from .settings import FinetuneSettings, GenerationSettings
from .tasks import Task


class KeptSeeds:
    """The scores of a model on a task by seed, each kept as soon as it is there.

    Args:
        file: Where they are kept; None keeps them in memory only.
        model: Folder, hub name or package name.
        task: Its rows, as they are learned and scored.
        settings: The protocol.
        facts: What else decides the scores.

    Attributes:
        scores: Of every finished seed for the same model, rows and settings.

    Raises:
        EvaluationError: The file is not one of results.
    """

    def __init__(
        self,
        file: Path | None,
        model: str,
        task: Task,
        settings: FinetuneSettings | GenerationSettings,
        facts: Sequence[Any],
    ) -> None:
        self.scores: dict[int, SeedScore] = {}
        self._file = file
        if file is not None:
            self._key = _fingerprint(model, task, settings, facts)
            saved = _all_kept(file).get(self._key, [])
            self.scores = {score["seed"]: restored_score(score) for score in saved}

    def keep(self, score: SeedScore) -> None:
        """Add the score of a seed; what the file holds for other models and settings stays."""
        self.scores[score.seed] = score
        if self._file is not None:
            mine = [asdict(score) for score in self.scores.values()]
            content = {**_all_kept(self._file), self._key: mine}
            write_text(self._file, json.dumps(content, indent=1))


def _fingerprint(
    model: str,
    task: Task,
    settings: FinetuneSettings | GenerationSettings,
    further: Sequence[Any],
) -> str:
    """Names the model's files, the rows and the settings: outdated results are not reused."""
    protocol = asdict(settings)
    protocol.pop("search", None)  # what it has chosen stands in the other settings
    facts = [fingerprint(model), task.name, protocol, task.test_split, *further]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for example in [*task.train, *task.test]:
        digest.update(repr(example).encode())
        if example.conversation:
            digest.update(repr(example.conversation).encode())
    return digest.hexdigest()


def _all_kept(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Every finished seed in the file, by fingerprint."""
    if not results.exists():
        return {}
    try:
        saved: dict[str, list[dict[str, Any]]] = json.loads(results.read_text(encoding="utf-8"))
        for scores in saved.values():
            _ = [restored_score(score) for score in scores]
    except (ValueError, TypeError, AttributeError) as error:
        raise EvaluationError(
            f"{results} is not a file of results ({type(error).__name__}: {error}); remove it, or"
            " give another place for results"
        ) from error
    return saved


def restored_score(saved: Mapping[str, Any]) -> SeedScore:
    """The score that was stored as JSON, which has lists where a score has tuples."""
    tags = tuple(tuple(row) for row in saved.get("tags", ()))
    return SeedScore(**{**saved, "labels": tuple(saved.get("labels", ())), "tags": tags})
