"""The scores of arms on redrawn test rows, each computed once for all reports of a study."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..evaluation.bootstrap import draw_rows, redrawn_scores
from ..evaluation.finetune import SeedScore
from ..evaluation.intervals import Redrawn
from ..evaluation.seeds import TaskScore
from ..evaluation.task_files import load_task
from ..evaluation.tasks import Task, subsample
from ..run.measure_task import scored_task
from .arms import ArmRun, evaluation_of
from .schema import Study


class Redraws:
    """The tasks of a study, and what arms score on redraws of their test rows.

    Args:
        study: With the number of redraws.
        runs: All of its trainings.

    Attributes:
        tasks: The one that the students learn, if there is one, and those of the evaluation.
        differ: Whether students learn different tasks, which are not scored then.
    """

    def __init__(self, study: Study, runs: Sequence[ArmRun]) -> None:
        part = evaluation_of(runs)
        loaded = [load_task(location, test_split=part.split) for location in part.tasks]
        rows, prompts = part.max_train_samples, part.generation.max_eval_samples
        self.tasks = [subsample(task, rows=rows, seed=0, prompts=prompts) for task in loaded]
        learned = scored_task(runs[0].setup)
        scored = [_scored_by(task) for run in runs if (task := scored_task(run.setup))]
        self.differ = len(scored) not in (0, len(runs)) or any(s != scored[0] for s in scored)
        self._learned = learned.name if learned and not self.differ else None
        if learned and not self.differ:
            self.tasks.insert(0, learned)
        self._drawn = {
            task.name: draw_rows(len(task.test), draws=study.draws, seed=0) for task in self.tasks
        }
        self._several = study.seeds > 1
        self._known: dict[tuple[str, ...], dict[str, Redrawn]] = {}

    def of(
        self, runs: Sequence[ArmRun], scores: Mapping[str, Sequence[TaskScore]]
    ) -> dict[str, Redrawn]:
        """The scores of one arm by task, on the test rows and on every redraw of them.

        Args:
            runs: Its trainings that have ended.
            scores: Of each of them, by task; a training never has other scores later.
        """
        places = tuple(run.place for run in runs)
        if places not in self._known:
            found = {
                task.name: redrawn_scores(
                    task, self._by_seed(runs, scores[task.name]), self._drawn[task.name]
                )
                for task in self.tasks
            }
            self._known[places] = found if self._several else self._for_each_seed(found)
        return self._known[places]

    def _for_each_seed(self, found: dict[str, Redrawn]) -> dict[str, Redrawn]:
        """The score of the task that one training learns, once for each of its fine-tunings."""
        seeds = next((one.seeds for task, one in found.items() if task != self._learned), None)
        if self._learned is None or seeds is None:
            return found
        one = found[self._learned]
        many = replace(
            one,
            seeds=seeds,
            observed=np.repeat(one.observed, len(seeds)),
            redrawn=np.repeat(one.redrawn, len(seeds), axis=0),
            repeated=True,
        )
        return {**found, self._learned: many}

    def _by_seed(
        self, runs: Sequence[ArmRun], scores: Sequence[TaskScore]
    ) -> dict[int, Sequence[SeedScore]]:
        """Scores by seed: of trainings, each with its fine-tunings; of one, of those alone."""
        if self._several:
            return {run.seed: score.seeds for run, score in zip(runs, scores, strict=True)}
        return {seed.seed: [seed] for score in scores for seed in score.seeds}


def _scored_by(task: Task) -> tuple[object, ...]:
    """What is scored of a task."""
    return task.name, task.kind, task.labels, task.tags, task.test
