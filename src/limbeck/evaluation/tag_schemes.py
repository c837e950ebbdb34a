"""Spans of words in the schemes that taggers have: IOB2, as rows do, and those with marked ends.

BIOES (O, B-T, I-T, E-T and S-T) and BILOU (L-T and U-T in their place) mark the last word of a
span, and a span of one word.

Source: Ratinov and Roth 2009, Design Challenges and Misconceptions in Named Entity Recognition,
CoNLL, 147.
"""

from collections.abc import Sequence
from dataclasses import replace

from .tasks import Example, Task

_SCHEMES = ({"last": "E-", "alone": "S-"}, {"last": "L-", "alone": "U-"})
_AS_IOB2 = {"B-": "B-", "I-": "I-", "E-": "I-", "L-": "I-", "S-": "B-", "U-": "B-"}


def as_iob2(tags: Sequence[str]) -> list[str]:
    """Tags of any of the schemes in IOB2; what is of none is outside of spans.

    >>> as_iob2(["S-PER", "O", "B-LOC", "E-LOC", "X"])
    ['B-PER', 'O', 'B-LOC', 'I-LOC', 'O']
    """
    begins = [_AS_IOB2.get(tag[:2]) for tag in tags]
    return [f"{begin}{tag[2:]}" if begin else "O" for begin, tag in zip(begins, tags, strict=True)]


def in_scheme_of(labels: Sequence[str], tags: Sequence[str]) -> list[str]:
    """IOB2 tags in the scheme of a head.

    Args:
        labels: Of the head.
        tags: Of the words of a row.

    >>> in_scheme_of(["O", "B-X", "I-X", "E-X", "S-X"], ["B-X", "B-X", "I-X", "O"])
    ['S-X', 'B-X', 'E-X', 'O']
    """
    scheme = _scheme_of(labels)
    if scheme is None:
        return [*tags]
    found = []
    for tag, after in zip(tags, [*tags[1:], "O"], strict=True):
        if tag != "O" and after != f"I-{tag[2:]}":
            tag = f"{scheme['alone' if tag.startswith('B-') else 'last']}{tag[2:]}"
        found.append(tag)
    return found


def rows_in_scheme_of(labels: Sequence[str], rows: Sequence[Example]) -> list[Example]:
    """Rows with their tags in the scheme of a head; those without tags as they are.

    Args:
        labels: Of the head.
        rows: With tags in IOB2.
    """
    return [
        row if row.tags is None else replace(row, tags=tuple(in_scheme_of(labels, row.tags)))
        for row in rows
    ]


def task_in_scheme_of(labels: Sequence[str], task: Task) -> Task:
    """A task with its tags in the scheme of a head.

    Args:
        labels: Of the head.
        task: With tags in IOB2, or without.
    """
    if not task.tags or _scheme_of(labels) is None:
        return task
    train, test = (rows_in_scheme_of(labels, rows) for rows in (task.train, task.test))
    tags = sorted({tag for row in (*train, *test) for tag in row.tags or ()})
    return replace(task, train=train, test=test, tags=tuple(tags))


def _scheme_of(labels: Sequence[str]) -> dict[str, str] | None:
    """How a head marks the last word of a span, and one alone; None where it does neither."""
    kinds = {label[2:] for label in labels if label.startswith("B-")}
    for scheme in _SCHEMES:
        if any({f"{mark}{kind}" for mark in scheme.values()} <= {*labels} for kind in kinds):
            return scheme
    return None
