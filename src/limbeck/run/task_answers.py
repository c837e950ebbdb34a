"""What models with the head of a task say of rows, and how good that is: no fine-tuning."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from transformers import PreTrainedModel

from ..activations import Needs
from ..batch import UNLABELED
from ..errors import EvaluationError, ModelError
from ..evaluation.embeddings.scores import means_of
from ..evaluation.finetune import SeedScore
from ..evaluation.rankings import ranking_scores
from ..evaluation.seeds import TaskScore
from ..evaluation.task_model import score_predictions
from ..evaluation.tasks import Example, Task, TaskKind
from ..models.capture import capture
from ..models.families.lookup import architecture_of
from ..models.load import load_config, load_task_model
from ..models.task_heads import (
    TaskHead,
    head_of,
    label_problem,
    no_head_of_task,
    padding_problem,
)
from ..recipe.sides import ModelSide
from ..recipe.task import with_head
from ..reports.task_results import Interval
from ..system.device import choose_device
from ..system.progress import told
from ..teacher.ensemble import averaged
from ..tokenization.load import load_tokenizer
from .reader import Reader
from .task_batches import TaskBatches

_AT_ONCE = 64


@dataclass(frozen=True)
class Answers:
    """What a model says of rows.

    Attributes:
        logits: One row for each text, or for each word of each text; one column for each label, or
            the number.
        right: The number of the right label of each; `UNLABELED` where it is not known. Zeros where
            numbers are given. Where any number of labels may hold, a column for each: 1, 0 or
            `UNLABELED`.
        read: Of each row, the numbers of its words that were read; none where texts are classified.
    """

    logits: Float[ndarray, "items classes"]
    right: Int[ndarray, " items"] | Int[ndarray, "items classes"]
    read: tuple[tuple[int, ...], ...]

    @property
    def multi_label(self) -> bool:
        """Whether any number of labels may hold."""
        return self.right.ndim == 2

    @cached_property
    def best(self) -> Int[ndarray, " items"] | Int[ndarray, "items classes"]:
        """The most likely label of each text or word; of several, 1 for each that rather holds."""
        if self.multi_label:
            return (self.logits > 0).astype(int)
        return np.asarray(self.logits.argmax(-1))


def task_side(name: str, labels: dict[str, str] | None = None) -> ModelSide:
    """A model with the head that it was saved with.

    Args:
        name: A folder or hub name.
        labels: Other names of its labels.

    Raises:
        ModelError: It cannot be read.
        EvaluationError: It has no such head.
    """
    config = load_config(name)
    head = head_of(config)
    if head is None:
        raise EvaluationError(no_head_of_task(name, config))
    head = head.renamed(labels or {})
    architecture, tokenizer = architecture_of(config), load_tokenizer(name)
    if architecture.causal and (problem := padding_problem(head, config, tokenizer)):
        raise ModelError(f"{name!r} {problem}")
    return with_head(ModelSide.of(name, config, architecture, tokenizer), head)


def answers_of(
    side: ModelSide, rows: Sequence[Example], labels: Sequence[str], *, max_length: int
) -> Answers:
    """What a model says of rows, in float32.

    Args:
        side: The model, with its head.
        rows: With or without labels.
        labels: The order of the columns; the head has all of them.
        max_length: Tokens of a row at most.

    Raises:
        EvaluationError: The head lacks a label, or a number is not finite.
    """
    head = side.head
    if head is None or (problem := label_problem(labels, head.labels, repr(side.name))):
        raise EvaluationError(f"{side.name!r} cannot be asked: {problem if head else 'no head'}")
    device = choose_device()
    model: Any = load_task_model(side.name, head)
    model.to(device)
    lengths = [sum(map(len, row.words or (row.text or "", row.text_pair or ""))) for row in rows]
    order = np.argsort(lengths, kind="stable")
    batches = TaskBatches(
        table=[rows[place] for place in order],
        head=replace(head, labels=tuple(labels)),
        student=Reader.of(side, max_length),
        teacher=None,
        size=_AT_ONCE,
        seed=0,
        shuffled=False,
    )
    columns = [head.labels.index(label) for label in labels]
    found: list[tuple[ndarray, ndarray, tuple[int, ...]] | None] = [None] * len(rows)
    starts = range(0, len(rows), _AT_ONCE)
    for start in told(starts, f"asking {side.name}", "batches"):
        here = order[start : start + _AT_ONCE]
        for place, answer in zip(
            here, _answered(model, side, batches, start // _AT_ONCE, len(here)), strict=True
        ):
            logits, right, words = answer
            found[place] = logits[:, columns], right, words
    every = [answer for answer in found if answer is not None]
    logits = np.concatenate([logits for logits, _, _ in every])
    if not np.isfinite(logits).all():
        raise EvaluationError(f"{side.name!r} gives numbers that are not finite; train it again")
    return Answers(
        logits,
        np.concatenate([right for _, right, _ in every]),
        tuple(words for _, _, words in every),
    )


def averaged_answers(
    sides: Sequence[ModelSide], rows: Sequence[Example], labels: Sequence[str], *, max_length: int
) -> Answers:
    """What one or several models say of rows, as teachers' answers are averaged for a student.

    Args:
        sides: The models, with their heads; several read the same tokens.
        rows: With or without labels.
        labels: The order of the columns; the heads have all of them.
        max_length: Tokens of a row at most.

    Raises:
        EvaluationError: As of `answers_of`.
    """
    every = [answers_of(side, rows, labels, max_length=max_length) for side in sides]
    if len(every) == 1:
        return every[0]
    mean = averaged(
        [torch.from_numpy(answers.logits) for answers in every], multi_label=every[0].multi_label
    )
    return replace(every[0], logits=mean.numpy())


@torch.no_grad()
def _answered(
    model: PreTrainedModel, side: ModelSide, batches: TaskBatches, number: int, count: int
) -> list[tuple[ndarray, ndarray, tuple[int, ...]]]:
    """Logits, right labels and read words of each row of a batch."""
    tokens = batches.batch(number, slice(count)).student
    device = next(model.parameters()).device
    captured = capture(model, side.architecture, tokens.to(device), Needs(class_logits=True))
    if captured.class_logits is None:
        raise EvaluationError(f"{side.name!r} gave no logits")
    logits = captured.class_logits.float().cpu().numpy()
    right = tokens.labels[tokens.predicted].numpy()
    if tokens.multi_hot is not None:
        held = tokens.multi_hot
        right = torch.where(held.isnan(), UNLABELED, held).long().numpy()
    ends = np.cumsum(tokens.predicted.sum(-1).numpy())[:-1]
    words: list[tuple[int, ...]] = [()] * count
    if batches.head and batches.head.kind == "token":
        rows = [batches.table[number * batches.size + place] for place in range(count)]
        words = [tuple(batches.student.read(row).words) for row in rows]
    return list(zip(np.split(logits, ends), np.split(right, ends), words, strict=True))


def scored(answers: Answers, task: Task, *, seed: int, began: float) -> SeedScore:
    """The score of answers on the test rows of a task, as fine-tuned models have theirs.

    Args:
        answers: Of the test rows, with the task's labels or tags as columns.
        task: What was asked.
        seed: Of the training.
        began: When measuring began.
    """
    labels: list[float] = []
    tags: list[list[int]] = []
    if task.kind is TaskKind.TAGGING:
        outside = task.tags.index("O") if "O" in task.tags else -1
        best = iter(answers.best.tolist())
        for row, words in zip(task.test, answers.read, strict=True):
            said = {word: next(best) for word in words}
            tags.append([said.get(word, outside) for word in range(len(row.words or ()))])
    elif task.kind is TaskKind.MULTI_LABEL:
        tags = [np.flatnonzero(held).tolist() for held in answers.best]
    elif task.kind is TaskKind.REGRESSION:
        labels = answers.logits[:, 0].tolist()
    else:
        labels = [float(number) for number in answers.best]
    names = [[task.names[place] if place >= 0 else "O" for place in row] for row in tags]
    return SeedScore(
        seed,
        score_predictions(task, labels, names),
        time.perf_counter() - began,
        labels=tuple(labels),
        tags=tuple(map(tuple, tags)),
    )


def ranking_intervals(task: Task, score: SeedScore) -> dict[str, Interval]:
    """nDCG@10 and MRR by query, each with the interval of redrawn queries.

    Args:
        task: That was scored.
        score: On its test rows, with the answers.

    Returns:
        Nothing where rows are not documents of queries.
    """
    if not task.queries:
        return {}
    found = ranking_scores(score.labels, task.relevances, task.queries)
    return means_of(found) if found else {}


def with_labels_of(head: TaskHead, task: Task) -> Task:
    """A task with all labels that a head has, sorted: the same whatever the order of its logits."""
    if head.scores:
        return task
    if head.kind == "sequence":
        return replace(task, labels=tuple(sorted(head.labels)))
    return replace(task, tags=tuple(sorted(head.labels)))


def columns_of(head: TaskHead, task: Task) -> tuple[str, ...]:
    """The labels or tags of such a task, in the order of the columns of answers."""
    return (task.labels if head.kind == "sequence" else task.tags) or head.labels


def score_of_task(task: Task, score: SeedScore, *, training_rows: int) -> TaskScore:
    """One score as that of a task over seeds."""
    return TaskScore(
        task=task.name,
        metric=task.headline,
        test_split=task.test_split,
        training_rows=training_rows,
        test_rows=len(task.test),
        seeds=(score,),
    )


def known(answers: Answers) -> Answers:
    """Only what has a right label."""
    here = (answers.right != UNLABELED).reshape(len(answers.right), -1).all(-1)
    return Answers(answers.logits[here], answers.right[here], ())
