"""What the student of a task has learned: scores with its own head, beside teacher and control."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..errors import LimbeckError
from ..evaluation.bootstrap import draw_rows, redrawn_scores
from ..evaluation.calibration import calibration, fitted_temperature
from ..evaluation.finetune import SeedScore
from ..evaluation.intervals import difference
from ..evaluation.seeds import TaskScore
from ..evaluation.tasks import Task
from ..recipe.setup import Setup
from ..recipe.sides import ModelSide
from ..reports.task_results import Flips, Sureness, TaskAnswers
from .task_answers import (
    Answers,
    averaged_answers,
    columns_of,
    known,
    ranking_intervals,
    score_of_task,
    scored,
    task_side,
    with_labels_of,
)

_DRAWS = 1000


class TaskMeasures(NamedTuple):
    """The scores of every role with its own head, and what the answers show."""

    scores: dict[str, TaskScore]
    answers: TaskAnswers


def task_measures(setup: Setup, models: Mapping[str, str]) -> TaskMeasures | None:
    """The scores of models on the task that they have learned, and what their answers show.

    Args:
        setup: A checked recipe.
        models: Folder or name of every role; those without the head of the task are left out.

    Returns:
        None where no task with scored rows was learned.
    """
    head, task = setup.models.student.head, scored_task(setup)
    if head is None or task is None or setup.rows is None:
        return None
    sides = _sides(setup, models)
    labels = columns_of(head, task)
    length = setup.recipe.data.max_length
    answers, scores, sureness, rankings = {}, {}, {}, {}
    for role, members in sides.items():
        began = time.perf_counter()
        answers[role] = averaged_answers(members, task.test, labels, max_length=length)
        score = scored(answers[role], task, seed=setup.recipe.seed, began=began)
        scores[role] = score_of_task(task, score, training_rows=len(setup.rows.train))
        if ranking := ranking_intervals(task, score):
            rankings[role] = ranking
        if not head.scores:
            apart = averaged_answers(members, setup.rows.held_out, labels, max_length=length)
            sureness[role] = _sureness(known(answers[role]), known(apart))
    taught, student = answers.get("teacher"), answers.get("student")
    found = TaskAnswers(
        task=task.name,
        unit="row" if head.kind == "sequence" else "word",
        agreement=_agreement(student, taught) if student and taught else None,
        sureness=sureness,
        flips=_flips(student, taught, labels) if student and taught and not head.scores else [],
        verdict=_verdict(task, {role: score.seeds[0] for role, score in scores.items()}),
        rankings=rankings,
    )
    return TaskMeasures(scores, found)


def scored_task(setup: Setup) -> Task | None:
    """The task of a recipe with all labels of the student's head, sorted as in any other recipe."""
    head = setup.models.student.head
    task = setup.rows.scored if setup.rows else None
    return task if task is None or head is None else with_labels_of(head, task)


def _sides(setup: Setup, models: Mapping[str, str]) -> dict[str, tuple[ModelSide, ...]]:
    """The models that have a head for the task; several whose answers are averaged."""
    part, found = setup.recipe.teacher, {}
    wanted = setup.models.student.head
    for role, model in models.items():
        if role == "teacher" and setup.models.ensemble:
            found[role] = setup.models.required_teacher(), *setup.models.ensemble
            continue
        try:
            side = task_side(model, dict(part.labels) if part and role == "teacher" else None)
        except LimbeckError:
            if role == "student":
                raise
            continue  # a teacher or control of another kind is scored by fine-tuning alone
        if wanted and side.head and side.head.says_what(wanted):
            found[role] = (side,)
    return found


def _sureness(tested: Answers, held_out: Answers) -> Sureness:
    tested, held_out = _one_by_one(tested), _one_by_one(held_out)
    temperature = (
        fitted_temperature(held_out.logits, held_out.right) if len(held_out.right) else 1.0
    )
    plain = calibration(tested.logits, tested.right)
    scaled = calibration(tested.logits, tested.right, temperature=temperature)
    return Sureness(plain.ece, plain.brier, temperature, scaled.ece, scaled.brier)


def _one_by_one(answers: Answers) -> Answers:
    """Answers that give any number of labels, as two for each label: that it holds, or not."""
    if not answers.multi_label:
        return answers
    logits = answers.logits.reshape(-1, 1)
    both = np.concatenate([np.zeros_like(logits), logits], axis=1)
    return Answers(both, answers.right.reshape(-1), ())


def _common(mine: Answers, theirs: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Which answers of both are about the same: all of texts, and words that both have read."""
    if not any(mine.read):
        every = np.arange(len(mine.right))
        return every, every
    places = [
        {key: place for place, key in enumerate(_words(answers))} for answers in (mine, theirs)
    ]
    keys = [key for key in places[0] if key in places[1]]
    return (
        np.array([places[0][key] for key in keys], dtype=int),
        np.array([places[1][key] for key in keys], dtype=int),
    )


def _words(answers: Answers) -> list[tuple[int, int]]:
    return [(row, word) for row, words in enumerate(answers.read) for word in words]


def _agreement(mine: Answers, theirs: Answers) -> float:
    here, there = _common(mine, theirs)
    if mine.logits.shape[1] == 1 and not mine.multi_label:
        return float(np.corrcoef(mine.logits[here, 0], theirs.logits[there, 0])[0, 1])
    same = mine.best[here] == theirs.best[there]
    return float((same.all(-1) if mine.multi_label else same).mean())


def _flips(mine: Answers, theirs: Answers, labels: tuple[str, ...]) -> list[Flips]:
    here, there = _common(mine, theirs)
    right = mine.right[here]
    student, teacher = mine.best[here] == right, theirs.best[there] == right
    lost, gained = teacher & ~student, student & ~teacher
    if mine.multi_label:  # of each label, rows in which it is said wrongly or left out
        counts = zip(*((x.sum(0).tolist()) for x in (right == 1, lost, gained)), strict=True)
        found = [Flips(name, *count) for name, count in zip(labels, counts, strict=True)]
    else:
        every, missed, won = (Counter(x.tolist()) for x in (right, right[lost], right[gained]))
        found = [
            Flips(labels[number], every[number], missed[number], won[number])
            for number in every
            if number >= 0
        ]
    return sorted(found, key=lambda flips: (-flips.lost - flips.gained, flips.label))


def _verdict(task: Task, scores: Mapping[str, SeedScore]) -> str:
    """Whether distillation was worth it: the share that is kept, and the gain over a control."""
    if "student" not in scores:
        return ""
    mine = scores["student"].metrics[task.headline]
    said = []
    if teacher := scores.get("teacher"):
        theirs = teacher.metrics[task.headline]
        if theirs > 0:
            said.append(f"The student keeps {mine / theirs:.1%} of the teacher's {task.headline}.")
        if theirs < mine:
            said.append("The teacher is below its student: fine-tune it longer, and distil again.")
    if control := scores.get("no_distillation"):
        drawn = draw_rows(len(task.test), draws=_DRAWS, seed=0)
        both = (
            {task.name: redrawn_scores(task, {0: [score]}, drawn)}
            for score in (scores["student"], control)
        )
        gap = difference(*both)
        interval = f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
        worth = "gains" if gap.low > 0 else "loses" if gap.high < 0 else "shows no certain gain:"
        said.append(
            f"Against the student without a teacher distillation {worth}"
            f" {100 * gap.mean:+.1f} points ({interval} for other rows)."
        )
    else:
        said.append(
            "Without a control it is not known what the labels alone would have taught: train one"
            " with `class_labels` alone, and name it as `evaluation.baseline`."
        )
    return " ".join(said)
