"""Tasks as files of JSON lines: read, checked, and refused with the place of what is wrong."""

import math
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..data.json_lines import file_of_split, has_split, read_rows
from ..data.prompts import as_prompt, files_of_prompts, read_with_documents
from ..errors import DataError
from .tasks import METRICS, TASKS, Example, Task, TaskKind, check_known

_FIELDS = ("text", "text_pair", "label", "tokens", "tags")  # that a row may have


def load_task(location: str, *, test_split: str | None = None) -> Task:
    """The task whose files begin with ``location``, as ``DIR/sst2`` for sst2.train.jsonl.gz.

    Args:
        location: Folder and common name of the files. ``DIR/sib200_en>sib200_ru`` learns
            from the rows of the first and is scored on those of the second, in the same
            folder: transfer from one language to another.
        test_split: ``dev``, ``test`` or another; by default dev, else test.

    Raises:
        DataError: A file is missing or broken, rows are of several kinds, the
            scored file has labels that the training file lacks, or the task is
            known by name and its rows cannot be scored as that task is.
    """
    source, place = _places(location)
    if test_split is None:
        test_split = "dev" if has_split(place, "dev") else "test"
    files = [*files_of_prompts(str(source)), *files_of_prompts(str(place), test_split)]
    states = [(file, file.stat()) for file in files]
    known = tuple((str(f), s.st_size, s.st_mtime_ns, s.st_ctime_ns) for f, s in states)
    return _task_in_state(location, test_split, known)


def _places(location: str) -> tuple[Path, Path]:
    """Folder and common name of the files that are learned from, and of those that are scored."""
    learned, other, scored = location.partition(">")
    source = Path(learned.strip())
    place = source.with_name(scored.strip()) if scored.strip() else source
    if other and place == source:
        raise DataError(f"{location!r} names one task; give two as DIR/LEARNED>SCORED")
    return source, place


# Cached, because a plan reads a task several times, and a study once for every arm.
@lru_cache(maxsize=16)
def _task_in_state(
    location: str, test_split: str, states: tuple[tuple[str, int, int, int], ...]
) -> Task:
    source, place = _places(location)
    train = list(_read(source, "train"))
    test = list(_read(place, test_split))
    kinds = Counter(_kind(example) for example in [*train, *test])
    if len(kinds) > 1:
        counts = ", ".join(f"{kind.value} {count}" for kind, count in kinds.items())
        raise DataError(f"{location} mixes kinds of rows ({counts}); give one kind a file")
    kind = next(iter(kinds))
    labels = _choices(train, test, f"{place}.{test_split}", "label")
    tags = _choices(train, test, f"{place}.{test_split}", "tags")
    known = TASKS.get(place.name)
    task = Task(
        name=f"{source.name}_to_{place.name}" if place != source else place.name,
        kind=kind,
        headline=known.headline if known else METRICS[kind][0],
        positive=known.positive if known else None,
        train=train,
        test=test,
        test_split=test_split,
        labels=labels if kind in (TaskKind.CLASSIFICATION, TaskKind.JOINT) else (),
        tags=tags,
        scored_as=place.name,
    )
    if known:
        check_known(task, location, known)
    return task


def is_generation_task(location: str) -> bool:
    """Whether the task is a generation task, by its first training row.

    Raises:
        DataError: There is no file, or its first row is broken.
    """
    learned = Path(location.partition(">")[0].strip())
    row, _ = next(read_rows(file_of_split(learned, "train")))
    return "references" in row


def _read(location: Path, split: str) -> Iterator[Example]:
    for row, place in read_with_documents(location, split):
        yield _example(row, place)


def _example(row: dict[str, Any], place: str) -> Example:
    given = {name for name in _FIELDS if row.get(name) is not None}
    if "references" in row:
        _refuse(given, "`references`", place)
        prompt = as_prompt(row, place)
        return Example(text=prompt.text, references=prompt.references, place=place)
    for name in sorted(given & {"text", "text_pair"}):
        if not isinstance(row[name], str):
            raise DataError(f"{place}: {name} {row[name]!r:.60} is not a string")
    label = _label(row.get("label"), place)
    words, tags = row.get("tokens"), row.get("tags")
    if (words is None) != (tags is None):
        raise DataError(f"{place} has only one of `tokens` and `tags`; give both")
    if words is not None and tags is not None:
        _check_tags(words, tags, place)
        _refuse(given & {"text_pair"}, "`tokens`", place)
        if isinstance(label, float):
            raise DataError(f"{place}: label {row['label']!r:.60} must be a string beside tags")
        text = row.get("text")
        return Example(text, label=label, words=tuple(words), tags=tuple(tags), place=place)
    if not {"text", "label"} <= given:
        raise DataError(
            f"{place} has the fields {', '.join(row) or 'none'}; needed are `text` and `label`,"
            " `tokens` and `tags`, or `prompt` and `references`"
        )
    for name in sorted(given & {"text", "text_pair"}):
        if not row[name].strip():
            raise DataError(f"{place}: `{name}` is empty; give a text, or leave the row out")
    return Example(row["text"], row.get("text_pair"), label, place=place)


def _refuse(fields: set[str], beside: str, place: str) -> None:
    """Refuse fields that would not be read."""
    if fields:
        named = " and ".join(f"`{name}`" for name in sorted(fields))
        raise DataError(f"{place} has {named} beside {beside}, which is not read; leave it out")


def _label(value: Any, place: str) -> str | float | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{place}: label {value!r:.60} is neither a string nor a number")
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


def _check_tags(words: Any, tags: Any, place: str) -> None:
    for name, values in (("tokens", words), ("tags", tags)):
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise DataError(f"{place}: `{name}` is {values!r:.60}; give a list of strings")
    if not words or len(words) != len(tags):
        raise DataError(
            f"{place} has {len(words)} tokens and {len(tags)} tags; give one tag for each token,"
            " and at least one token"
        )
    for number, word in enumerate(words, 1):
        if not word.strip():
            message = f"{place}: token {number} is empty; give a word, or leave it and its tag out"
            raise DataError(message)
    for before, tag in zip(["O", *tags], tags, strict=False):
        begins = tag == "O" or tag.startswith("B-")
        if not begins and not (tag.startswith("I-") and before[1:] == tag[1:]):
            raise DataError(
                f"{place} has the tag {tag!r} after {before!r}, which is not IOB2; write a span as"
                " B-TYPE, I-TYPE, ... and other words as O"
            )


def _kind(example: Example) -> TaskKind:
    if example.references is not None:
        return TaskKind.GENERATION
    if example.words is not None:
        return TaskKind.TAGGING if example.label is None else TaskKind.JOINT
    return TaskKind.CLASSIFICATION if isinstance(example.label, str) else TaskKind.REGRESSION


def _choices(train: list[Example], test: list[Example], file: str, field: str) -> tuple[str, ...]:
    known, scored = (Counter(_values(rows, field)) for rows in (train, test))
    if unknown := scored.keys() - known.keys():
        counts = ", ".join(f"{name!r} ({scored[name]} times)" for name in sorted(unknown))
        raise DataError(
            f"{file} has {field} {counts} that the training file lacks; correct them, or add"
            " training rows"
        )
    return tuple(sorted(known))


def _values(rows: list[Example], field: str) -> Iterator[str]:
    for example in rows:
        value = getattr(example, field)
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from value
