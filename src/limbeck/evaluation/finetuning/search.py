"""Learning rate and length of a fine-tuning, chosen on training rows by successive halving.

Every trial is a whole training, with the rate falling to zero at its end: a training that is
stopped early has not had that, and says less about its length.

Source: Jamieson and Talwalkar 2016, arXiv:1502.07943 (successive halving); here every rung
trains from the beginning.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean

from ...errors import EvaluationError
from ...reports.search_results import SearchResult, Trial
from ..finetune import SeedScore, finetune
from ..kept_seeds import KeptSeeds
from ..settings import FinetuneSettings, SearchSettings
from ..task_model import NotFiniteError
from ..tasks import Task, TaskKind
from .validation import with_validation

SEED = 0  # of every search, so that a later call with other seeds chooses the same
_SHARES = (1 / 8, 1 / 4, 1 / 2, 1)  # of the most epochs
_OF_BOTH = ("intent_accuracy", "span_f1")  # what a joint task is chosen by: their mean


def search(
    model: str,
    task: Task,
    settings: FinetuneSettings,
    *,
    results: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[FinetuneSettings, SearchResult]:
    """The settings with the best learning rate and length, and what was tried.

    A rate at which the loss is not finite is the worst. The test rows are never read.

    Args:
        model: Folder, hub name or package name.
        task: Its training rows are divided.
        settings: With a search.
        results: File in which finished trials are kept; they are not run again.
        progress: Called with (what is tried, step, steps).

    Raises:
        EvaluationError: The settings hold no search, there are too few rows, or no loss is finite.
        ModelError: The model cannot be loaded.
    """
    if settings.search is None:
        raise EvaluationError("the settings hold no search; give search=SearchSettings()")
    how = settings.search
    held = with_validation(task, fraction=how.validation_fraction, seed=SEED)

    def tried(rate: float, epochs: float) -> Trial:
        fixed = _fixed(settings, rate, epochs)
        return _trial(model, held, fixed, results, progress)

    found = SearchResult(
        metric=" and ".join(_OF_BOTH) if task.kind is TaskKind.JOINT else task.headline,
        learning_rates=sorted(set(how.learning_rates)),
        most_epochs=how.num_train_epochs,
        training_rows=len(held.train),
        validation_rows=len(held.test),
        trials=successive_halving(tried, how),
    )
    chosen = found.chosen
    if chosen.score is None:
        raise EvaluationError(
            f"the loss on {task.name} is not finite at any of the learning rates"
            f" {', '.join(f'{rate:g}' for rate in found.learning_rates)}; give lower ones, or"
            " precision float32"
        )
    return _fixed(settings, chosen.learning_rate, chosen.num_train_epochs), found


def successive_halving(tried: Callable[[float, float], Trial], how: SearchSettings) -> list[Trial]:
    """Every trial in its order: all rates for the shortest length, half of them for the next.

    Args:
        tried: Trains with a learning rate for a number of epochs.
        how: The rates, and the most epochs.
    """
    rates = sorted(set(how.learning_rates))
    trials: list[Trial] = []
    for share in _SHARES:
        of_length = [tried(rate, share * how.num_train_epochs) for rate in rates]
        of_length.sort(key=lambda trial: trial.rank, reverse=True)
        longer_is_better = not trials or of_length[0].rank > max(t.rank for t in trials)
        trials += of_length
        if not longer_is_better:
            break
        rates = [trial.learning_rate for trial in of_length[: -(-len(rates) // 2)]]
    return trials


def _fixed(settings: FinetuneSettings, rate: float, epochs: float) -> FinetuneSettings:
    return replace(settings, learning_rate=rate, num_train_epochs=epochs, search=None)


def _trial(
    model: str,
    task: Task,
    settings: FinetuneSettings,
    results: Path | None,
    progress: Callable[[str, int, int], None] | None,
) -> Trial:
    """One fine-tuning, run or as it was kept."""
    name = f"learning rate {settings.learning_rate:g}, {settings.num_train_epochs:g} epochs"

    def show(_: int, step: int, steps: int) -> None:
        if progress:
            progress(name, step, steps)

    kept = KeptSeeds(results, model, task, settings, ["search"])
    if SEED not in kept.scores:
        kept.keep(_tried(model, task, settings, show))
    score = kept.scores[SEED]
    return Trial(
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.num_train_epochs,
        score=_headline(task, score),
        loss=score.metrics.get("loss"),
        seconds=score.seconds,
    )


def _tried(
    model: str, task: Task, settings: FinetuneSettings, progress: Callable[[int, int, int], None]
) -> SeedScore:
    """Scores and loss on the validation rows; no metric where one is not finite."""
    try:
        tuned = finetune(model, task, settings=settings, seed=SEED, progress=progress)
        score = tuned.score(task)
    except NotFiniteError:
        return SeedScore(SEED, {}, 0.0)
    metrics = score.metrics | {"loss": tuned.loss(task)}
    return replace(score, metrics=metrics, labels=(), tags=())


def _headline(task: Task, score: SeedScore) -> float | None:
    names = _OF_BOTH if task.kind is TaskKind.JOINT else (task.headline,)
    return mean(score.metrics[name] for name in names) if score.metrics else None
