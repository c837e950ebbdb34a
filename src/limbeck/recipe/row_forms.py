"""Rows in the form in which they are read: a text, a pair, or words that a tagger tags."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ..data.words import words_of
from ..evaluation.tasks import Example, Task, TaskKind
from ..models.task_heads import TaskHead

# What is said of rows: one thing of a whole text, or one of each word; None leaves it open.
Kind = Literal["sequence", "token"] | None


def task_of_kind(task: Task, kind: Kind) -> Task:
    """A task of labels and tags with one of the two alone; any other task as it is.

    Args:
        task: As it was read.
        kind: ``token`` keeps the tags, ``sequence`` the labels.
    """
    if task.kind is not TaskKind.JOINT:
        return task
    if kind == "token":
        return replace(task, kind=TaskKind.TAGGING, labels=(), headline="span_f1")
    train, test = as_read(task.train, "sequence"), as_read(task.test, "sequence")
    return replace(
        task,
        kind=TaskKind.CLASSIFICATION,
        tags=(),
        headline="accuracy",
        train=train,
        test=test,
    )


def one_or_several(head: TaskHead, task: Task) -> str:
    """The end of a message where one of a head and a task alone allows several labels for a text.

    Args:
        head: Of another kind than the task.
        task: As it was read.
    """
    if task.kind is TaskKind.MULTI_LABEL and head.kind == "sequence" and not head.scores:
        return (
            f", or, where this one was, say so in its config.json (problem_type: {task.kind.value})"
        )
    if task.kind is TaskKind.CLASSIFICATION and head.multi_label:
        return "; give the labels of such rows as lists, as label: [NAME, ...]"
    return ""


def as_read(rows: Sequence[Example], kind: Kind) -> list[Example]:
    """Rows as models of a kind read them: taggers words; others a text, if a row has both.

    Args:
        rows: With or without labels and tags.
        kind: What is said of them.
    """
    if kind == "token":
        return [*rows]
    return [whole(row) for row in rows]


def whole(row: Example) -> Example:
    """A row without tags, and without words where it has a text."""
    has_text = row.text is not None and row.text.strip()
    return replace(row, tags=None, words=None if has_text else row.words)


def as_words(row: Example) -> list[Example]:
    """The texts of a row as words, of which a tagger says something; rows of words as they are."""
    if row.words is not None:
        return [row]
    return [replace(text, text=None, words=words_of(text.text or "")) for text in single_texts(row)]


def single_texts(row: Example) -> list[Example]:
    """The two texts of a pair as rows; any other row as it is."""
    if row.text_pair is None:
        return [row]
    return [replace(row, text=text, text_pair=None) for text in (row.text, row.text_pair)]
