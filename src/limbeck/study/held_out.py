"""How good a training is on what it holds out: by this the values of a search are chosen."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import TrainingError
from ..evaluation.tasks import Example, Task
from ..recipe.setup import Setup
from ..run.measure_task import scored_task
from ..run.task_answers import answers_of, columns_of, scored, task_side
from ..training.records import RunLog


@dataclass(frozen=True)
class HeldOutScore:
    """What a training shows on rows that it never learns from, and that are never scored.

    Attributes:
        score: The headline measure of its task with its own head, a share of 1; None where there
            is no such task, or where a number is not finite.
        loss: The weighted loss of its last stage; None where it is not finite.
    """

    score: float | None
    loss: float | None


def held_out_task(setup: Setup) -> Task | None:
    """The task with the labelled held-out rows in the place of its scored rows.

    None where the student has no head of a task, or where no held-out row has a label.
    """
    head, task = setup.models.student.head, scored_task(setup)
    if head is None or task is None or setup.rows is None:
        return None
    rows = [row for row in setup.rows.held_out if _labelled(row, head.kind)]
    return replace(task, test=rows, test_split="held_out", shared=()) if rows else None


def held_out_score(setup: Setup, folder: Path) -> HeldOutScore:
    """The score and the loss of a finished training.

    Args:
        setup: Of the training.
        folder: Its run folder.
    """
    loss = weighted_loss(setup, folder)
    head, task = setup.models.student.head, held_out_task(setup)
    if head is None or task is None or loss is None:
        return HeldOutScore(None, loss)
    began = time.perf_counter()
    answers = answers_of(
        task_side(str(folder / "student")),
        task.test,
        columns_of(head, task),
        max_length=setup.recipe.data.max_length,
    )
    found = scored(answers, task, seed=setup.recipe.seed, began=began)
    score = found.metrics[task.headline]
    return HeldOutScore(score if math.isfinite(score) else None, loss)


def _labelled(row: Example, kind: str) -> bool:
    return (row.label if kind == "sequence" else row.tags) is not None


def weighted_loss(setup: Setup, folder: Path, *, first: bool = False) -> float | None:
    """The objectives of the last stage on held-out rows, each times its weight; None if not finite.

    Args:
        setup: Of the training.
        folder: Its run folder.
        first: Before the first step of that stage, not at its end.
    """
    last = len(setup.stages) - 1
    records = RunLog(folder / "log.jsonl").records()
    means = [r["held_out"] for r in records if "held_out" in r and r["stage_number"] == last]
    if not means:
        raise TrainingError(
            f"{folder} holds no loss on held-out rows; remove the folder to train again"
        )
    weights = setup.stages[last].weights_at(1.0)
    loss = sum(weights[name] * value for name, value in means[0 if first else -1].items())
    return float(loss) if math.isfinite(loss) else None
