"""The scores of a model on tasks over several seeds; finished seeds are kept in files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ..generation.ends import ends_of
from ..reports.search_results import SearchResult
from ..system.device import choose_device, choose_precision
from ..tokenization.load import load_tokenizer
from .finetune import SeedScore, finetune
from .finetuning.search import search
from .generation_scores import score_generation
from .kept_seeds import KeptSeeds, restored_score
from .settings import FinetuneSettings, GenerationSettings
from .tasks import Task, TaskKind


@dataclass(frozen=True)
class TaskScore:
    """The scores of a model on a task, over seeds.

    Attributes:
        task: Its name.
        metric: The headline metric.
        test_split: The rows that were scored.
        training_rows: How many were learned from.
        test_rows: How many were scored.
        seeds: A score each.
        search: How learning rate and length were chosen, once for all seeds; None where they were
            given, or where nothing was learned.
    """

    task: str
    metric: str
    test_split: str
    training_rows: int
    test_rows: int
    seeds: tuple[SeedScore, ...]
    search: SearchResult | None = None

    @property
    def values(self) -> list[float]:
        """The headline metric of every seed."""
        return [score.metrics[self.metric] for score in self.seeds]

    @property
    def mean(self) -> float:
        """The headline metric, averaged over seeds."""
        return mean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the headline metric between seeds; None of one seed."""
        return self.deviation_of(self.values)

    @staticmethod
    def deviation_of(values: Sequence[float]) -> float | None:
        """Standard deviation; None of fewer than two values, which have none."""
        return stdev(values) if len(values) > 1 else None

    @staticmethod
    def joined(scores: Sequence["TaskScore"]) -> "TaskScore":
        """The seeds of several models that differ only by chance, as those of one."""
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
        """For programs: every score, without the predictions of each row."""
        plain = asdict(self)
        for seed in plain["seeds"]:
            del seed["labels"], seed["tags"]
        if self.search is None:
            del plain["search"]
        return plain | {"mean": self.mean, "spread": self.deviation, "means": self.means()}

    @staticmethod
    def restored(plain: Mapping[str, Any]) -> "TaskScore":
        """The scores, with the predictions of each row, that `asdict` gave and JSON stored."""
        search = plain["search"]
        return TaskScore(
            **{
                **plain,
                "seeds": tuple(map(restored_score, plain["seeds"])),
                "search": search and SearchResult.from_json(search),
            }
        )


def evaluate_tasks(
    model: str,
    tasks: Sequence[Task],
    *,
    settings: FinetuneSettings,
    generation: GenerationSettings | None = None,
    seeds: Sequence[int],
    results: Mapping[str, Path] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
    search_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, TaskScore]:
    """The scores of a model folder on tasks that learn from the same rows, over seeds.

    Every seed is fine-tuned once on all training rows, and scored on the test rows of each task;
    a search for learning rate and length is done once for all seeds. Generation tasks are not
    fine-tuned: the model answers their prompts as it is.

    Args:
        model: Folder, hub name or package name.
        tasks: Read and, if wanted, subsampled; a group of `learned_together`.
        settings: The protocol of fine-tuning.
        generation: The protocol of generation tasks.
        seeds: One fine-tuning each.
        results: For every task a JSON file in which finished seeds are kept. Seeds that it
            holds for the same model, rows and settings are not run again; those of others stay.
            The first one keeps the trials of a search too.
        progress: Called with (seed, step, steps).
        search_progress: Called with (what is tried, step, steps).

    Raises:
        EvaluationError: A number is not finite, a setting makes no sense, or a file is no results.
        ModelError: The model cannot be loaded.
    """
    generation, results = generation or GenerationSettings(), results or {}
    settings, found = _chosen(model, tasks[0], settings, results, search_progress)
    kept = _kept_seeds(model, tasks, settings, generation, results)
    for seed in seeds:
        if not (open_ := [task for task in tasks if seed not in kept[task.name].scores]):
            continue
        score: Callable[[Task], SeedScore]
        if tasks[0].kind is TaskKind.GENERATION:
            score = partial(
                _generated, model, generation=generation, seed=seed, kept=kept, progress=progress
            )
        else:
            score = finetune(model, tasks[0], settings=settings, seed=seed, progress=progress).score
        for task in open_:
            kept[task.name].keep(score(task))
    return {
        task.name: TaskScore(
            task=task.name,
            metric=task.headline,
            test_split=task.test_split,
            training_rows=len(task.train),
            test_rows=len(task.test),
            seeds=tuple(kept[task.name].scores[seed] for seed in seeds),
            search=found,
        )
        for task in tasks
    }


def _chosen(
    model: str,
    task: Task,
    settings: FinetuneSettings,
    results: Mapping[str, Path],
    progress: Callable[[str, int, int], None] | None,
) -> tuple[FinetuneSettings, SearchResult | None]:
    """The settings to train with, and the search that chose them, if there was one."""
    # With the precision that `auto` means here: results of another precision are not reused.
    precision = choose_precision(settings.precision, choose_device()).name
    settings = replace(settings, precision=precision)
    if not settings.search or task.kind is TaskKind.GENERATION:
        return settings, None
    return search(model, task, settings, results=results.get(task.name), progress=progress)


def _kept_seeds(
    model: str,
    tasks: Sequence[Task],
    settings: FinetuneSettings,
    generation: GenerationSettings,
    results: Mapping[str, Path],
) -> dict[str, KeptSeeds]:
    """What is kept of each task, under the protocol that it is scored by."""
    protocol: FinetuneSettings | GenerationSettings
    if tasks[0].kind is TaskKind.GENERATION:
        protocol, facts = generation, _prompt_facts(model, generation)
    else:
        protocol, facts = settings, []
    return {
        task.name: KeptSeeds(results.get(task.name), model, task, protocol, facts) for task in tasks
    }


def _generated(
    model: str,
    task: Task,
    *,
    generation: GenerationSettings,
    seed: int,
    kept: Mapping[str, KeptSeeds],
    progress: Callable[[int, int, int], None] | None,
) -> SeedScore:
    """The score of a seed; at temperature 0 all seeds generate the same, so one is enough."""
    if generation.temperature == 0 and kept[task.name].scores:
        return replace(next(iter(kept[task.name].scores.values())), seed=seed)
    return score_generation(model, task, settings=generation, seed=seed, progress=progress)


def _prompt_facts(model: str, generation: GenerationSettings) -> list[Any]:
    """What else decides a text: the chat template, and ends beside the tokenizer's own."""
    tokenizer = load_tokenizer(model)
    ends = [end for end in ends_of(tokenizer, model) if end != tokenizer.eos_token_id]
    template = tokenizer.chat_template if generation.chat_template else None
    return [fact for fact in (template, ends) if fact]


def learned_together(tasks: Sequence[Task]) -> list[list[Task]]:
    """Tasks in groups that learn from the same rows, in the order of their first members."""
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
