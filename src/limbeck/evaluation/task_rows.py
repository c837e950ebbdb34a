"""Rows as examples of a task, each refused with its place if something is wrong with it."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..data.prompt_kinds import are_prompts
from ..data.prompts import Prompt, as_prompt, prompt_of
from ..data.rows import FIELDS
from ..errors import DataError
from ..models.label_forms import form_problem
from .tasks import Example, TaskKind

# Of a row of messages with references; whatever else it has is not read.
_NAMED = 6  # labels, in a message
_CHAT_FIELDS = ("prompt", "references", "document", "system", "tools")


def example_of(
    row: Mapping[str, Any],
    place: str,
    *,
    columns: Sequence[str] | None = None,
    labelled: bool = True,
) -> Example:
    """A row as an example.

    Args:
        row: By the names of the fields.
        place: Of the row, for messages.
        columns: What the fields are called where the row is from, if they were mapped.
        labelled: False also accepts rows without label or tags, and any that they have: those are
            counted, and not read.

    Raises:
        DataError: A field is missing, empty or of a wrong type, or would not be read.
    """
    given = {name for name in FIELDS if row.get(name) is not None}
    if "references" in row:
        _refuse(given, "`references`", place)
        if isinstance(row.get("prompt"), list) or row.get("system") or row.get("tools"):
            told = {field: value for field, value in row.items() if field in _CHAT_FIELDS}
            return example_of_prompt(prompt_of(told, place), place)
        return example_of_prompt(as_prompt(row, place), place)
    if labelled and are_prompts(row):
        return example_of_prompt(prompt_of(row, place), place)
    for name in sorted(given & {"text", "text_pair"}):
        if not isinstance(row[name], str):
            raise DataError(f"{place}: {name} {row[name]!r:.60} is not a string")
    words, tags = row.get("tokens"), row.get("tags")
    label = _label(row.get("label"), place) if labelled else _unread(row.get("label"), place)
    if labelled and (words is None) != (tags is None):
        raise DataError(f"{place} has only one of `tokens` and `tags`; give both")
    if words is not None:
        _check_words(words, place)
        if labelled:
            _check_tags(tags, len(words), place)
        _refuse(given & {"text_pair"}, "`tokens`", place)
        if labelled and isinstance(label, (float, tuple)):
            raise DataError(f"{place}: label {row['label']!r:.60} must be a string beside tags")
        text, kept = row.get("text"), _kept_tags(tags)
        return Example(text, label=label, words=tuple(words), tags=kept, place=place)
    needed = {"text", "label"} if labelled else {"text"}
    if not needed <= given:
        raise DataError(_missing(row, place, columns, labelled=labelled))
    for name in sorted(given & {"text", "text_pair"}):
        if not row[name].strip():
            raise DataError(f"{place}: `{name}` is empty; give a text, or leave the row out")
    return Example(row["text"], row.get("text_pair"), label, tags=_kept_tags(tags), place=place)


def example_of_prompt(prompt: Prompt, place: str) -> Example:
    """A prompt, or a conversation, as an example."""
    return Example(
        text=prompt.text,
        references=prompt.references,
        conversation=prompt.conversation,
        place=place,
    )


def _missing(
    row: Mapping[str, Any], place: str, columns: Sequence[str] | None, *, labelled: bool
) -> str:
    """What a row lacks, and what to change."""
    if empty := [name for name in ("text", "label") if name in row and row[name] is None]:
        return f"{place}: `{empty[0]}` is empty; give a value, or leave the row out"
    there = ", ".join(map(str, row if columns is None else columns)) or "none"
    needed = "`text` and `label`, `tokens` and `tags`, `prompt` and `references`, or `messages`"
    needed = needed if labelled else "`text`, `text` and `text_pair`, or `tokens`"
    hint = "" if columns is None else "; name their columns, as {text: body, label: stars}"
    return f"{place} has the fields {there}; needed are {needed}{hint}"


def _refuse(fields: set[str], beside: str, place: str) -> None:
    """Refuse fields that would not be read."""
    if fields:
        named = " and ".join(f"`{name}`" for name in sorted(fields))
        raise DataError(f"{place} has {named} beside {beside}, which is not read; leave it out")


def _label(value: Any, place: str) -> str | float | tuple[str, ...] | None:
    if isinstance(value, (list, tuple)):
        return _labels(value, place)
    if isinstance(value, str) and not value.strip():
        raise DataError(f"{place}: `label` is empty; give a label, or leave the row out")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(
            f"{place}: label {value!r:.60} is neither a string nor a number, nor a list of strings"
        )
    try:
        number = float(value)
    except OverflowError:  # more digits than a number of the machine has
        number = math.inf
    if not math.isfinite(number):
        raise DataError(
            f"{place}: label {value!r:.60} must be a finite number; correct it, or write it as a"
            " string where it names a class"
        )
    return number


def _labels(values: Sequence[Any], place: str) -> tuple[str, ...]:
    """The labels of a text that may have any number of them, sorted."""
    if any(isinstance(one, bool) or not isinstance(one, (str, int)) for one in values):
        raise DataError(
            f"{place}: label {[*values]!r:.60} is no list of labels; give the names of those that"
            " hold, or a column of 0 and 1 for each (`label: [COLUMN, ...]`)"
        )
    names = sorted(map(str, values))
    if not all(map(str.strip, names)):
        raise DataError(f"{place}: one of the labels {names!r:.60} is empty; leave it out")
    if twice := next((one for one, other in pairwise(names) if one == other), None):
        raise DataError(
            f"{place}: label {[*values]!r:.60} names {twice!r} twice; name each label that holds"
            " once, or give a column of 0 and 1 for each (`label: [COLUMN, ...]`)"
        )
    return tuple(names)


def _unread(value: Any, place: str) -> str | float | tuple[str, ...] | None:
    """A label that is counted and not read, whatever it is; None where a value is missing."""
    try:
        return _label(value, place)
    except DataError:
        missing = isinstance(value, float) or not str(value).strip()
        return None if missing else str(value)


def _kept_tags(tags: Any) -> tuple[str, ...] | None:
    """Tags as they were checked, or those that are not read."""
    if tags is None:
        return None
    return tuple(map(str, tags)) if isinstance(tags, (list, tuple)) else (str(tags),)


def _check_words(words: Any, place: str) -> None:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError(f"{place}: `tokens` is {words!r:.60}; give a list of strings")
    if not words:
        raise DataError(f"{place} has 0 tokens; give at least one token")
    for number, word in enumerate(words, 1):
        if not word.strip():
            message = f"{place}: token {number} is empty; give a word, or leave it and its tag out"
            raise DataError(message)


def _check_tags(tags: Any, count: int, place: str) -> None:
    """See that tags are of so many words, and in IOB2."""
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        numbers = isinstance(tags, list) and any(isinstance(tag, int) for tag in tags)
        hint = " (`labels` names tags that are numbers, in rows without a `label`)"
        raise DataError(
            f"{place}: `tags` is {tags!r:.60}; give a list of strings{hint if numbers else ''}"
        )
    if len(tags) != count:
        raise DataError(
            f"{place} has {count} tokens and {len(tags)} tags; give one tag for each token"
        )
    for before, tag in pairwise(["O", *tags]):
        begins = tag == "O" or tag.startswith("B-")
        if not begins and not (tag.startswith("I-") and before[1:] == tag[1:]):
            raise DataError(
                f"{place} has the tag {tag!r} after {before!r}, which is not IOB2; write a span as"
                " B-TYPE, I-TYPE, ... and other words as O"
            )


def kind_of_rows(rows: Iterable[Example], location: str) -> TaskKind:
    """The kind of task that rows are of.

    Raises:
        DataError: They are of several kinds.
    """
    kinds = Counter(map(_kind, rows))
    if len(kinds) > 1:
        counts = ", ".join(f"{kind.value} {count}" for kind, count in kinds.items())
        raise DataError(
            f"{location} mixes kinds of rows ({counts}); give one kind a file{_mixed_hint(kinds)}"
        )
    return next(iter(kinds))


def _mixed_hint(kinds: Iterable[TaskKind]) -> str:
    """What else may be meant, where some labels are strings and others numbers."""
    if {*kinds} == {TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL}:
        return "; or write every label as a list, those of one alone too"
    if {*kinds} != {TaskKind.CLASSIFICATION, TaskKind.REGRESSION}:
        return ""
    return (
        "; or, where labels are strings in some rows and numbers in others, say which they are:"
        " {path: ..., problem_type: classification}, or regression"
    )


def _kind(example: Example) -> TaskKind:
    if example.references is not None:
        return TaskKind.GENERATION
    if example.words is not None:
        return TaskKind.TAGGING if example.label is None else TaskKind.JOINT
    if isinstance(example.label, tuple):
        return TaskKind.MULTI_LABEL
    return TaskKind.CLASSIFICATION if isinstance(example.label, str) else TaskKind.REGRESSION


def choices(
    train: Sequence[Example], test: Sequence[Example], scored: str, field: str
) -> tuple[str, ...]:
    """The sorted labels or tags of the training rows.

    Args:
        train: The training rows.
        test: The scored rows.
        scored: Where those are from, for messages.
        field: ``label`` or ``tags``.

    Raises:
        DataError: A scored row has another, or two differ by their form of Unicode alone.
    """
    known, found = (Counter(_values(rows, field)) for rows in (train, test))
    if problem := form_problem([*known, *found], known):
        raise DataError(f"rows have {field} of which {problem}")
    if unknown := found.keys() - known.keys():
        named = sorted(unknown)
        counts = ", ".join(f"{name!r} ({found[name]} times)" for name in named[:_NAMED])
        counts += f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        raise DataError(
            f"{scored} has {field} {counts} that the training file lacks; correct them, or add"
            f" training rows{numbers_hint(known)}"
        )
    return tuple(sorted(known))


def numbers_hint(labels: Iterable[str]) -> str:
    """The end of a message about labels that are read as classes, where they look like scores.

    >>> numbers_hint(["4.2", "0.5"]), numbers_hint(["good", "1"])
    ('; they are numbers read as classes: problem_type: regression scores them as numbers', '')
    """
    try:
        whole = all(float(label).is_integer() for label in labels)
    except ValueError:
        return ""
    said = "they are numbers read as classes: problem_type: regression scores them as numbers"
    return "" if whole else f"; {said}"


def _values(rows: Iterable[Example], field: str) -> Iterator[str]:
    for example in rows:
        value = getattr(example, field)
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from value
