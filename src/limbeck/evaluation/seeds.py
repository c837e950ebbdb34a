"""A model on a task over several seeds; finished seeds are kept, so an interrupted one goes on."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ..errors import EvaluationError
from ..generation.ends import ends_of
from ..models.locate import fingerprint
from ..system.device import choose_device, choose_precision
from ..system.files import write_text
from ..tokenization.load import load_tokenizer
from .finetune import SeedScore, finetune
from .generation import score_generation
from .settings import FinetuneSettings, GenerationSettings
from .tasks import Task, TaskKind


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
    def spread(self) -> float | None:
        """Standard deviation of the headline metric between seeds; None of one seed."""
        return self.spread_of(self.values)

    @staticmethod
    def spread_of(values: Sequence[float]) -> float | None:
        """Standard deviation; None of fewer than two values, which tell nothing of it."""
        return stdev(values) if len(values) > 1 else None

    @staticmethod
    def joined(scores: Sequence["TaskScore"]) -> "TaskScore":
        """The seeds of several models that differ by chance alone, as those of one."""
        return replace(scores[0], seeds=tuple(seed for score in scores for seed in score.seeds))

    @staticmethod
    def by_training(scores: Sequence["TaskScore"]) -> dict[str, list[float]]:
        """Every metric of several models, averaged over the seeds of each."""
        means = [score.means() for score in scores]
        return {name: [of_one[name] for of_one in means] for name in means[0]}

    def means(self) -> dict[str, float]:
        """Every metric, averaged over seeds."""
        return {
            name: mean(score.metrics[name] for score in self.seeds)
            for name in self.seeds[0].metrics
        }

    def to_json(self) -> dict[str, Any]:
        """For programs: every score, without what was said of each row."""
        plain = asdict(self)
        for seed in plain["seeds"]:
            del seed["labels"], seed["tags"]
        return plain | {"mean": self.mean, "spread": self.spread, "means": self.means()}


def evaluate_tasks(
    model: str,
    tasks: Sequence[Task],
    *,
    settings: FinetuneSettings,
    writing: GenerationSettings | None = None,
    seeds: Sequence[int],
    results: Mapping[str, Path] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> dict[str, TaskScore]:
    """The scores of a model folder on tasks that learn from the same rows, over seeds.

    Every seed is fine-tuned once, and scored on each task's test rows. Tasks that ask for
    texts are not learned first: the model writes them as it is.

    Args:
        model: Folder, hub name or package name.
        tasks: Read and, if wanted, subsampled; as `learned_together` groups them.
        settings: The protocol.
        writing: That of tasks that ask for texts.
        seeds: One fine-tuning each.
        results: For every task a JSON file in which finished seeds are kept; those
            that are in it for the same model, rows and settings are not run again,
            and those of others stay.
        progress: Called with (seed, step, steps).

    Raises:
        EvaluationError: A loss or a prediction is not finite, a setting makes
            no sense, or a file is not one of results.
        ModelError: The model cannot be loaded.
    """
    writes = tasks[0].kind is TaskKind.GENERATION
    writing = writing or GenerationSettings()
    protocol = writing if writes else _resolved(settings)
    asked = _asked(model, writing) if writes else []
    keys = {task.name: _fingerprint(model, task, protocol, asked) for task in tasks if results}
    kept = {
        task.name: _kept(results[task.name], keys[task.name]) if results else {} for task in tasks
    }
    for seed in seeds:
        if not (open_ := [task for task in tasks if seed not in kept[task.name]]):
            continue
        score: Callable[[Task], SeedScore]
        if writes:
            score = partial(
                _written, model, writing=writing, seed=seed, kept=kept, progress=progress
            )
        else:
            score = finetune(model, tasks[0], settings=settings, seed=seed, progress=progress).score
        for task in open_:
            kept[task.name][seed] = score(task)
            if results:
                _keep(results[task.name], keys[task.name], kept[task.name])
    return {
        task.name: TaskScore(
            task=task.name,
            metric=task.headline,
            test_split=task.test_split,
            training_rows=len(task.train),
            test_rows=len(task.test),
            seeds=tuple(kept[task.name][seed] for seed in seeds),
        )
        for task in tasks
    }


def _written(
    model: str,
    task: Task,
    *,
    writing: GenerationSettings,
    seed: int,
    kept: Mapping[str, Mapping[int, SeedScore]],
    progress: Callable[[int, int, int], None] | None,
) -> SeedScore:
    """Without chance every seed writes the same, so it is written once."""
    if writing.temperature == 0 and kept[task.name]:
        return replace(next(iter(kept[task.name].values())), seed=seed)
    return score_generation(model, task, settings=writing, seed=seed, progress=progress)


def _resolved(settings: FinetuneSettings) -> FinetuneSettings:
    """With the precision that is run in, so that another machine's results are not taken for it."""
    return replace(settings, precision=choose_precision(settings.precision, choose_device()).name)


def _asked(model: str, writing: GenerationSettings) -> list[Any]:
    """What else decides a text: the template that asks, and ends beside the tokenizer's own."""
    tokenizer = load_tokenizer(model)
    ends = [end for end in ends_of(tokenizer, model) if end != tokenizer.eos_token_id]
    template = tokenizer.chat_template if writing.chat_template else None
    return [fact for fact in (template, ends) if fact]


def learned_together(tasks: Sequence[Task]) -> list[list[Task]]:
    """Tasks in groups that learn the same from the same rows, in the order of their first."""
    groups: list[list[Task]] = []
    for task in tasks:
        learned = task.kind, task.labels, task.tags, task.train
        for group in groups:
            if (group[0].kind, group[0].labels, group[0].tags, group[0].train) == learned:
                group.append(task)
                break
        else:
            groups.append([task])
    return groups


def _fingerprint(
    model: str, task: Task, settings: FinetuneSettings | GenerationSettings, asked: list[Any]
) -> str:
    """Names the model's files, the rows and the settings: stale results are not reused."""
    facts = [fingerprint(model), task.name, asdict(settings), task.test_split]
    facts += asked
    digest = hashlib.sha256(json.dumps(facts).encode())
    for example in [*task.train, *task.test]:
        digest.update(repr(example).encode())
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
