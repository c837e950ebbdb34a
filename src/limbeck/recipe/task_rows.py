"""The rows of a recipe's task: those that are learned from, and those that are held out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..data.corpus import held_out_below, is_held_out
from ..data.json_lines import file_of_split
from ..data.row_files import content_of_rows
from ..data.rows import Location
from ..data.words import words_of
from ..errors import DataError
from ..evaluation.leaks import without_scored
from ..evaluation.mapped_rows import source_of
from ..evaluation.task_files import content_of_task, load_rows, load_task
from ..evaluation.tasks import Example, Task, TaskKind, are_documents
from ..system.fingerprints import content_of
from .schema import DataPart


@dataclass(frozen=True)
class TaskRows:
    """The rows of a recipe.

    Attributes:
        task: The task with its scored rows; None where there are only rows without labels.
        kind: ``sequence`` where something is said of a whole text, ``token`` of each word; None
            where rows without labels leave it to the teacher.
        train: Rows that are learned from, labelled ones first.
        held_out: Rows that losses are measured on, and temperatures are fitted to.
        dropped: Rows without labels that are left out, because they are scored.
        unread: Rows of `data.rows` that have a label or tags, which are not read.
    """

    task: Task | None
    kind: Literal["sequence", "token"] | None
    train: Sequence[Example]
    held_out: Sequence[Example]
    dropped: int
    unread: int = 0

    @property
    def labelled(self) -> "TaskRows":
        """The rows whose label or tags are known."""
        train, held_out = (
            [row for row in rows if row.label is not None or row.tags is not None]
            for rows in (self.train, self.held_out)
        )
        return replace(self, train=train, held_out=held_out)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels or tags of the task that are learned, sorted; none of numbers."""
        if self.task is None:
            return ()
        return self.task.labels if self.kind == "sequence" else self.task.tags

    @property
    def scored(self) -> Task | None:
        """The task with nothing but what is learned of it."""
        return None if self.task is None else task_of_kind(self.task, self.kind)


def task_of_kind(task: Task, kind: Literal["sequence", "token"] | None) -> Task:
    """A task of labels and tags with one of the two alone; any other task as it is.

    Args:
        task: As it was read.
        kind: ``token`` keeps the tags, ``sequence`` the labels.
    """
    if task.kind is not TaskKind.JOINT:
        return task
    if kind == "token":
        return replace(task, kind=TaskKind.TAGGING, labels=(), headline="span_f1")
    test = [_whole(row) for row in task.test]
    train = [_whole(row) for row in task.train]
    return replace(
        task,
        kind=TaskKind.CLASSIFICATION,
        tags=(),
        headline="accuracy",
        train=train,
        test=test,
    )


def rows_of(
    data: DataPart, *, predict: Literal["label", "tags"] | None, split: str | None
) -> TaskRows:
    """The rows of a recipe that has a task, or rows without labels.

    Args:
        data: Of the recipe.
        predict: What is learned of rows that have both.
        split: The split that is scored; by default dev, else test.

    Raises:
        DataError: Rows cannot be read, or do not have what is learned.
    """
    read = data.model_dump_json(include={"task", "rows", "held_out"})
    state = [content_of_unlabelled(source) for source in data.rows]
    if data.task is not None:
        state.append(content_of_task(data.task, test_split=split))
    return _rows_in_state(read, tuple(state), predict, split)


# Arms of a study read the same rows, and so do the check and the training of a run.
@lru_cache(maxsize=4)
def _rows_in_state(
    read: str,
    state: tuple[str, ...],
    predict: Literal["label", "tags"] | None,
    split: str | None,
) -> TaskRows:
    """The rows of files in a state, which is here only to tell it from another."""
    data = DataPart.model_validate_json(read)
    task = None if data.task is None else load_task(data.task, test_split=split)
    if task and task.kind is TaskKind.GENERATION:
        raise DataError(
            f"{task.name} has prompts and references, which `data.prompts` learns from; give a task"
            " of labels or tags"
        )
    kind = _kind_of(task, predict)
    labelled = [] if task is None else list(task.train)
    if kind == "sequence":
        labelled = [_whole(row) for row in labelled]
    more = [row for source in data.rows for row in load_rows(source)]
    unread = sum(row.label is not None or row.tags is not None for row in more)
    more = [replace(row, label=None, tags=None) for row in more]
    if task is None and kind is None:  # texts alone: nothing is said of a pair
        more = [text for row in more for text in _texts(row)]
    more, dropped = without_scored(more, task.test) if task else (more, 0)
    if kind == "token":
        more = [words for row in more for words in _as_words(row)]
        more, others = without_scored(more, task.test) if task else (more, 0)
        dropped += others
    train, held_out = _split([*labelled, *more], data.held_out.fraction)
    return TaskRows(task, kind, train, held_out, dropped, unread)


def text_of(row: Example) -> str:
    """All that a row says, in one text."""
    if row.words is not None:
        return " ".join(row.words)
    return " ".join(filter(None, (row.text, row.text_pair)))


def content_of_unlabelled(location: Location) -> str:
    """A hash of the files of rows without labels.

    Raises:
        DataError: A file is missing.
    """
    if (source := source_of(location)) is not None:
        return content_of_rows(source)
    return content_of(file_of_split(Path(str(location)), "train"))


def _kind_of(
    task: Task | None, predict: Literal["label", "tags"] | None
) -> Literal["sequence", "token"] | None:
    """What is said of the task's rows, and of what.

    Raises:
        DataError: The rows do not have what is to be predicted.
    """
    wanted: Literal["sequence", "token"] | None
    wanted = None if predict is None else "sequence" if predict == "label" else "token"
    if task is None or (wanted and task.kind is TaskKind.JOINT):
        return wanted
    only: Literal["sequence", "token"]
    only = "token" if task.kind is TaskKind.TAGGING else "sequence"
    if wanted not in (None, only):
        other = "tags" if predict == "label" else "labels"
        raise DataError(f"{task.name} has {other} alone, so no {predict} can be predicted")
    return only


def _whole(row: Example) -> Example:
    """The row without its tags."""
    return replace(row, tags=None)


def _as_words(row: Example) -> list[Example]:
    """The texts of a row as words, of which a tagger says something; rows of words as they are."""
    if row.words is not None:
        return [row]
    return [replace(text, text=None, words=words_of(text.text or "")) for text in _texts(row)]


def _texts(row: Example) -> list[Example]:
    """The two texts of a pair as rows; any other row as it is."""
    if row.text_pair is None:
        return [row]
    return [replace(row, text=text, text_pair=None) for text in (row.text, row.text_pair)]


def _split(rows: Sequence[Example], fraction: float) -> tuple[list[Example], list[Example]]:
    """Rows that are learned from, and rows that are held out: equal rows are on the same side.

    So are all documents of a query, where most queries have several.

    Raises:
        DataError: One side is empty.
    """
    identity = _query if are_documents(rows) else _identity
    below = held_out_below(map(identity, rows), share=fraction)
    train: list[Example] = []
    held_out: list[Example] = []
    for row in rows:
        (held_out if is_held_out(identity(row), below=below) else train).append(row)
    if not train or not held_out:
        raise DataError(
            f"of {len(rows)} row(s), {len(train)} are left to learn from and {len(held_out)} are"
            " held out; give more rows that differ"
        )
    return train, held_out


def _query(row: Example) -> str:
    return row.text or ""


def _identity(row: Example) -> str:
    return json.dumps([row.text, row.text_pair, row.words], ensure_ascii=False)
