"""The score of a model or of a file of it, by the code that scores models of torch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.prompt_sources import TaskLocation
from ..errors import EvaluationError, ExportError
from ..evaluation.bootstrap import draw_rows, redrawn_scores
from ..evaluation.embeddings.encode import Encoder
from ..evaluation.embeddings.files import Pairs, read_similarity
from ..evaluation.embeddings.measure import EmbeddingTasks, evaluate_embeddings
from ..evaluation.finetune import SeedScore
from ..evaluation.reading_notes import reading_notes
from ..evaluation.scoring_notes import scoring_notes
from ..evaluation.task_files import name_of_task
from ..evaluation.tasks import Task
from ..models.task_heads import TaskHead
from ..reports.task_results import Interval
from ..run.own_head import task_of_head
from ..run.reader import Reader
from ..run.task_answers import Answers, columns_of, scored
from ..tokenization.padding import padded, real_tokens
from .arrays import Forward
from .batches import outputs_of
from .formats import MODELS
from .results import Scored
from .source import Source

_AT_ONCE, _DRAWS = 32, 1000
_WHOLE = 2**31  # tokens: nothing is truncated


@dataclass(frozen=True)
class ScoredTasks:
    """What a model is scored on.

    Attributes:
        tasks: Of its own head, with all labels of that.
        similarity: Of its vectors.
    """

    tasks: tuple[Task, ...] = ()
    similarity: tuple[Pairs, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FileEncoder(Encoder):
    """Vectors of texts that a file computes.

    Attributes:
        forward: Of the file.
    """

    forward: Forward

    def vectors_of(self, rows: Sequence[list[int]], of_prompt: int) -> Tensor:
        """The vectors [rows, width] of some texts; padding stands at the end."""
        ids = padded(rows, self.tokenizer.pad_token_id or 0, np.int64)
        mask = real_tokens(rows).astype(np.int64)
        return torch.from_numpy(self.forward({"input_ids": ids, "attention_mask": mask}))


def check_names(tasks: Sequence[TaskLocation], similarity: Sequence[str]) -> None:
    """See that reports can name every task.

    Args:
        tasks: As `load_task` reads them.
        similarity: DIR/NAME of pairs with numbers.

    Raises:
        DataError: The place of a task is none.
        ExportError: Two have one name.
    """
    names = [*map(name_of_task, tasks), *(Path(at).name for at in similarity)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ExportError(
            f"two tasks are called {twice!r}, and a report has one score for each name; leave one"
            " out, or give it another name, as {path: ..., task_name: ANOTHER}"
        )


def row_notes(tasks: Sequence[Task], reader: Reader, *, max_length: int | None = None) -> list[str]:
    """What a reader of scores must know of labels, and of rows that are not read exactly.

    Args:
        tasks: That are scored.
        reader: Of the model, which reads so many tokens at most.
        max_length: Tokens of a row that are to be read at most; None for all that the model reads.
    """
    notes = [note for task in tasks for note in scoring_notes(task)]
    length, most = max_length or _WHOLE, reader.limit
    for task in tasks:
        notes += reading_notes(task, reader.tokenizer, max_length=length, positions=most)
    return notes


def read_tasks(source: Source, tasks: Sequence[str], similarity: Sequence[str]) -> ScoredTasks:
    """The rows that a model is scored on, checked.

    Args:
        source: The model.
        tasks: DIR/NAME of tasks.
        similarity: DIR/NAME of pairs with numbers.

    Raises:
        ExportError: The model has no head, or no vectors of texts.
        EvaluationError: A task is of another kind, or of other labels.
        DataError: A file is missing or broken.
    """
    head = source.head
    if tasks and head is None:
        raise ExportError(
            f"--task needs a model with a head of its own, and {source.name!r} belongs to the"
            f" {MODELS[source.kind]}; leave it out (vectors are scored with --similarity), or"
            " fine-tune it first (`limbeck finetune`)"
        )
    if similarity and source.encoder is None:
        raise ExportError(
            f"--similarity needs a folder of sentence-transformers, and {source.name!r} belongs to"
            f" the {MODELS[source.kind]}; leave it out"
        )
    read = tuple(task_of_head(head, at, source.name) for at in tasks) if head else ()
    return ScoredTasks(read, tuple(read_similarity(at) for at in similarity))


def scores_of(source: Source, forward: Forward, named: ScoredTasks) -> tuple[Scored, ...]:
    """The scores of a model on every named task.

    Args:
        source: Reads the rows.
        forward: Of torch or of a file.
        named: The tasks.

    Raises:
        EvaluationError: A vector is not finite.
    """
    found = [_score(source, forward, task) for task in named.tasks]
    if named.similarity and source.encoder is not None:
        read = {one.name: getattr(source.encoder, one.name) for one in fields(Encoder)}
        encoder = FileEncoder(**read, forward=forward)
        for one in evaluate_embeddings(encoder, EmbeddingTasks(named.similarity)):
            found.append(Scored(one.task, one.metric, one.rows, one.scores[one.metric]))
    return tuple(found)


def _score(source: Source, forward: Forward, task: Task) -> Scored:
    if source.head is None:
        raise ExportError(f"{source.name!r} has no head")
    score = score_of_file(forward, source.reader, source.head, task)
    drawn = draw_rows(len(task.test), draws=_DRAWS, seed=0)
    redrawn = redrawn_scores(task, {0: [score]}, drawn)
    low, high = np.percentile(redrawn.redrawn[0], [2.5, 97.5])
    interval = Interval(score.metrics[task.headline], float(low), float(high))
    return Scored(task.name, task.headline, len(task.test), interval, task.test_split)


def score_of_file(forward: Forward, reader: Reader, head: TaskHead, task: Task) -> SeedScore:
    """The score of a model's own head on the test rows of a task.

    Args:
        forward: Of torch or of a file.
        reader: Reads the rows.
        head: Of the model.
        task: With all labels of the head.

    Raises:
        EvaluationError: A number is not finite.
    """
    began = time.perf_counter()
    answers = _answers(forward, reader, head, task)
    if not np.isfinite(answers.logits).all():
        raise EvaluationError(
            f"the file gives numbers that are not finite on {task.name}; use another of its formats"
        )
    return scored(answers, task, seed=0, began=began)


def _answers(forward: Forward, reader: Reader, head: TaskHead, task: Task) -> Answers:
    """What a forward says of the test rows, with the task's labels as columns."""
    readings = [reader.read(row) for row in task.test]
    outputs = outputs_of(forward, reader, readings, size=_AT_ONCE)
    columns = [head.labels.index(label) for label in columns_of(head, task)]
    if head.kind == "sequence":
        logits = np.stack(outputs)[:, columns]
        right = np.zeros(logits.shape if head.multi_label else len(logits), int)
        return Answers(logits, right, ((),) * len(logits))
    words = tuple(tuple(one.words) for one in readings)
    kept = [
        output[np.array(one.begins) >= 0] for output, one in zip(outputs, readings, strict=True)
    ]
    logits = np.concatenate(kept)[:, columns]
    return Answers(logits, np.zeros(len(logits), int), words)
