"""The rows of a recipe's task: those that are learned from, and those that are held out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..data.corpus import held_out_below, is_held_out
from ..data.json_lines import file_of_split
from ..data.prompt_sources import TaskLocation
from ..data.row_files import content_of_rows
from ..data.rows import Location, path_of
from ..errors import DataError, LimbeckError
from ..evaluation.leaks import without_scored
from ..evaluation.mapped_rows import source_of
from ..evaluation.tag_schemes import rows_in_scheme_of, task_in_scheme_of
from ..evaluation.task_files import content_of_task, is_generation_task, load_rows, load_task
from ..evaluation.tasks import Example, Task, TaskKind, are_documents
from ..system.fingerprints import content_of
from .row_forms import Kind, as_read, as_words, single_texts, task_of_kind
from .schema import DataPart

BEGINNING = 200  # rows of each source that tokenizers are looked at by


class SourceError(DataError):
    """Rows that cannot be read.

    Attributes:
        field: Of the recipe, which names them.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Beginning:
    """The first rows of a source, as they are learned from.

    Attributes:
        name: Of the source, for messages.
        rows: `BEGINNING` at most.
    """

    name: str
    rows: Sequence[Example]


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
        repeated: Rows without labels that are there before, with or without a label.
        beginnings: The first rows of each source, by its field.
    """

    task: Task | None
    kind: Kind
    train: Sequence[Example]
    held_out: Sequence[Example]
    dropped: int
    unread: int = 0
    repeated: int = 0
    beginnings: Mapping[str, Beginning] = field(default_factory=dict)

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

    def in_scheme_of(self, labels: Sequence[str]) -> "TaskRows":
        """The same with tags in the scheme of a head, which may mark the ends of spans."""
        if self.task is None or self.kind != "token":
            return self
        train, held_out = (rows_in_scheme_of(labels, rows) for rows in (self.train, self.held_out))
        task = task_in_scheme_of(labels, self.task)
        return replace(self, task=task, train=train, held_out=held_out)


def rows_of(
    data: DataPart,
    *,
    predict: Literal["label", "tags"] | None,
    split: str | None,
    scored: Sequence[TaskLocation] = (),
) -> TaskRows:
    """The rows of a recipe that has a task, or rows without labels.

    Args:
        data: Of the recipe.
        predict: What is learned of rows that have both.
        split: The split that is scored; by default dev, else test.
        scored: Further tasks whose scored rows are not learned from; what cannot be read of them
            is for others to say.

    Raises:
        SourceError: Rows cannot be read, or do not have what is learned.
        DataError: There are too few.
    """
    read = data.model_dump_json(include={"task", "rows", "held_out"})
    state = []
    for number, source in enumerate(data.rows):
        with _named(f"data.rows.{number}"):
            state.append(content_of_unlabelled(source))
    if data.task is not None:
        with _named("data.task"):
            state.append(content_of_task(data.task, test_split=split))
    others = []
    for location in scored:
        try:
            load_task(location, test_split=split)
            if not is_generation_task(location):
                state.append(content_of_task(location, test_split=split))
                others.append(location)
        except LimbeckError:
            continue  # is refused with its own field
    return _rows_in_state(read, tuple(state), predict, split, tuple(others))


# Arms of a study read the same rows, and so do the check and the training of a run.
@lru_cache(maxsize=4)
def _rows_in_state(
    read: str,
    state: tuple[str, ...],
    predict: Literal["label", "tags"] | None,
    split: str | None,
    scored: tuple[TaskLocation, ...],
) -> TaskRows:
    """The rows of files in a state, which is here only to tell it from another."""
    data = DataPart.model_validate_json(read)
    task, kind = None, _kind_of(None, predict)
    if data.task is not None:
        with _named("data.task"):
            task = _task(data.task, split)
            kind = _kind_of(task, predict)
    labelled = as_read(task.train, kind) if task else []
    others = [row for place in scored for row in load_task(place, test_split=split).test]
    not_learned = as_read([*(task.test if task else []), *others], kind)
    beginnings, more = {}, list[Example]()
    unread = dropped = 0
    if task:
        beginnings["data.task"] = Beginning(task.name, labelled[:BEGINNING])
    for number, source in enumerate(data.rows):
        place = f"data.rows.{number}"
        with _named(place):
            found = load_rows(source)
        unread += sum(row.label is not None or row.tags is not None for row in found)
        kept, count = _unlabelled(found, not_learned, kind)
        beginnings[place] = Beginning(path_of(source), kept[:BEGINNING])
        more += kept
        dropped += count
    train, held_out = _split([*labelled, *more], data.held_out.fraction)
    repeated = len(more) - len(set(map(_identity, more)) - set(map(_identity, labelled)))
    return TaskRows(task, kind, train, held_out, dropped, unread, repeated, beginnings)


def _task(location: Location, split: str | None) -> Task:
    """The task of a recipe.

    Raises:
        DataError: It cannot be read, or is one of prompts.
    """
    task = load_task(location, test_split=split)
    if task.kind is TaskKind.GENERATION:
        raise DataError(
            f"{task.name} has prompts and references, which `data.prompts` learns from; give a task"
            " of labels or tags"
        )
    return task


def _unlabelled(
    rows: Sequence[Example], scored: Sequence[Example], kind: Kind
) -> tuple[list[Example], int]:
    """Rows as the teacher reads them, and how many are left out because they are scored."""
    more = as_read([replace(row, label=None, tags=None) for row in rows], kind)
    more, dropped = without_scored(more, scored)
    if kind == "sequence":
        return more, dropped
    # Without a head, nothing is said of a pair.
    apart = as_words if kind == "token" else single_texts
    more, others = without_scored([row for one in more for row in apart(one)], scored)
    return more, dropped + others


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Let what is wrong with a source name its field."""
    try:
        yield
    except LimbeckError as error:
        raise SourceError(place, str(error)) from error


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


def _kind_of(task: Task | None, predict: Literal["label", "tags"] | None) -> Kind:
    """What is said of the task's rows, and of what.

    Raises:
        DataError: The rows do not have what is to be predicted.
    """
    wanted: Kind
    wanted = None if predict is None else "sequence" if predict == "label" else "token"
    if task is None or (wanted and task.kind is TaskKind.JOINT):
        return wanted
    only: Literal["sequence", "token"]
    only = "token" if task.kind is TaskKind.TAGGING else "sequence"
    if wanted not in (None, only):
        other = "tags" if predict == "label" else "labels"
        raise DataError(f"{task.name} has {other} alone, so no {predict} can be predicted")
    return only


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
