"""The scores of arms on redrawn test rows, each computed once for all reports of a study."""

from collections.abc import Mapping, Sequence

from ..evaluation.bootstrap import draw_rows, redrawn_scores
from ..evaluation.finetune import SeedScore
from ..evaluation.intervals import Redrawn
from ..evaluation.seeds import TaskScore
from ..evaluation.task_files import load_task
from ..evaluation.tasks import subsample
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
    """

    def __init__(self, study: Study, runs: Sequence[ArmRun]) -> None:
        part = evaluation_of(runs)
        loaded = [load_task(location, test_split=part.split) for location in part.tasks]
        rows, prompts = part.max_train_samples, part.generation.max_eval_samples
        self.tasks = [subsample(task, rows=rows, seed=0, prompts=prompts) for task in loaded]
        if learned := scored_task(runs[0].setup):
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
            self._known[places] = {
                task.name: redrawn_scores(
                    task, self._by_seed(runs, scores[task.name]), self._drawn[task.name]
                )
                for task in self.tasks
            }
        return self._known[places]

    def _by_seed(
        self, runs: Sequence[ArmRun], scores: Sequence[TaskScore]
    ) -> dict[int, Sequence[SeedScore]]:
        """Scores by seed: of trainings, each with its fine-tunings; of one, of those alone."""
        if self._several:
            return {run.seed: score.seeds for run, score in zip(runs, scores, strict=True)}
        return {seed.seed: [seed] for score in scores for seed in score.seeds}
