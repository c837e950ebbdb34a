"""Tasks as files of JSON lines: what is asked, how it is scored, and what is wrong with them."""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError


class TaskKind(str, Enum):
    """What a model must say of a text."""

    CLASSIFICATION = "classification"  # one of several labels, for a text or a pair
    REGRESSION = "regression"  # a number, for a text or a pair
    TAGGING = "tagging"  # a tag for every word, spans in IOB2
    JOINT = "joint"  # a label for the text and a tag for every word


@dataclass(frozen=True)
class Example:
    """One row; words and tags where the task tags, text and label where it classifies."""

    text: str | None = None
    text_pair: str | None = None
    label: str | float | None = None
    words: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class KnownTask:
    """How a published task is scored.

    Attributes:
        headline: The metric that stands in tables.
        language: Of its texts; "mixed" where there are several.
        about: One line.
        positive: The label whose F1 is meant, where the headline is ``f1``.
    """

    headline: str
    language: str
    about: str
    positive: str | None = None


TASKS: dict[str, KnownTask] = {
    "sst2": KnownTask("accuracy", "en", "sentiment of a sentence"),
    "cola": KnownTask("matthews", "en", "acceptability"),
    "mrpc": KnownTask("f1", "en", "paraphrase pairs", positive="equivalent"),
    "rte": KnownTask("accuracy", "en", "entailment pairs"),
    "stsb": KnownTask("spearman", "en", "similarity of pairs, 0 to 5"),
    "snips": KnownTask("intent_accuracy", "en", "intents and slots"),
    "clinc150": KnownTask("accuracy", "en", "150 intents"),
    "wnut17": KnownTask("span_f1", "en", "entities"),
    "rucola": KnownTask("matthews", "ru", "acceptability"),
    "terra": KnownTask("accuracy", "ru", "entailment pairs"),
    "rusentne": KnownTask("macro_f1", "ru", "sentiment towards an entity"),
    "paraphraser": KnownTask("macro_f1", "ru", "paraphrase pairs, three classes"),
    "factrueval_ner": KnownTask("span_f1", "ru", "entities"),
}
_HEADLINES = {
    TaskKind.CLASSIFICATION: "accuracy",
    TaskKind.REGRESSION: "spearman",
    TaskKind.TAGGING: "span_f1",
    TaskKind.JOINT: "intent_accuracy",
}


@dataclass(frozen=True)
class Task:
    """A task, read and checked.

    Attributes:
        name: The files' common name.
        kind: Found from the rows.
        headline: The metric that stands in tables.
        positive: The label whose F1 is meant, if one is.
        train: Rows to learn from.
        test: Rows to be scored on.
        test_split: Which file those came from.
        labels: Sorted labels of the training rows; empty without.
        tags: Sorted tags of the training rows; empty without.
    """

    name: str
    kind: TaskKind
    headline: str
    positive: str | None
    train: list[Example]
    test: list[Example]
    test_split: str
    labels: tuple[str, ...]
    tags: tuple[str, ...]


def load_task(location: str, *, test_split: str | None = None) -> Task:
    """The task whose files begin with ``location``, as ``DIR/sst2`` for sst2.train.jsonl.gz.

    Args:
        location: Folder and common name of the files.
        test_split: ``dev``, ``test`` or another; by default dev, else test.

    Raises:
        DataError: A file is missing or broken, rows are of several kinds, or
            the scored file has labels that the training file lacks.
    """
    place = Path(location)
    train_file = _find(place, "train")
    if test_split is None:
        test_split = "dev" if _exists(place, "dev") else "test"
    train = list(_read(train_file))
    test_file = _find(place, test_split)
    test = list(_read(test_file))
    kinds = Counter(_kind(example) for example in [*train, *test])
    if len(kinds) > 1:
        counts = ", ".join(f"{kind.value} {count}" for kind, count in kinds.items())
        raise DataError(f"{location} mixes kinds of rows ({counts}); give one kind a file")
    kind = next(iter(kinds))
    labels = _choices(train, test, test_file, "label")
    tags = _choices(train, test, test_file, "tags")
    known = TASKS.get(place.name)
    return Task(
        name=place.name,
        kind=kind,
        headline=known.headline if known else _HEADLINES[kind],
        positive=known.positive if known else None,
        train=train,
        test=test,
        test_split=test_split,
        labels=labels if kind in (TaskKind.CLASSIFICATION, TaskKind.JOINT) else (),
        tags=tags,
    )


def subsample(task: Task, *, rows: int | None, seed: int) -> Task:
    """The task with at most that many training rows, the same ones for every model."""
    if rows is None or rows >= len(task.train):
        return task
    chosen = np.sort(np.random.default_rng(seed).permutation(len(task.train))[:rows])
    train = [task.train[int(number)] for number in chosen]
    return replace(task, train=train)


def _exists(place: Path, split: str) -> bool:
    return any(place.with_name(f"{place.name}.{split}{end}").is_file() for end in _ENDINGS)


_ENDINGS = (".jsonl", ".jsonl.gz")


def _find(place: Path, split: str) -> Path:
    tried = [place.with_name(f"{place.name}.{split}{ending}") for ending in _ENDINGS]
    for file in tried:
        if file.is_file():
            return file
    beside = sorted({p.name.split(".")[0] for p in place.parent.glob("*.train.jsonl*")})
    hint = f"; tasks in {place.parent}: {', '.join(beside)}" if beside else ""
    raise DataError(f"neither {tried[0]} nor {tried[1].name} is there{hint}")


def _read(file: Path) -> Iterator[Example]:
    number = 0
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _example(json.loads(line), f"line {number} of {file}")
    except ValueError as error:
        what = "UTF-8" if isinstance(error, UnicodeDecodeError) else "JSON"
        raise DataError(f"line {number + 1} of {file} or after is not {what}: {error}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{file} is cut short or broken after line {number}: {error}") from error
    if not number:
        raise DataError(f"{file} is empty; give one JSON object a line")


def _example(row: Any, place: str) -> Example:
    if not isinstance(row, dict):
        raise DataError(f"{place} is a {type(row).__name__}, not an object")
    words, tags = row.get("tokens"), row.get("tags")
    label = row.get("label")
    if (words is None) != (tags is None):
        raise DataError(f"{place} has only one of `tokens` and `tags`; give both")
    if words is not None and tags is not None and len(words) != len(tags):
        raise DataError(f"{place} has {len(words)} tokens and {len(tags)} tags; give a tag each")
    if words is None and (not isinstance(row.get("text"), str) or label is None):
        raise DataError(
            f"{place} has the fields {', '.join(row)}; needed are `text` and `label`, or `tokens`"
            " and `tags`"
        )
    if not isinstance(label, (str, int, float, type(None))) or isinstance(label, bool):
        raise DataError(f"{place}: label {label!r} is neither a string nor a number")
    return Example(
        text=row.get("text"),
        text_pair=row.get("text_pair"),
        label=float(label) if isinstance(label, (int, float)) else label,
        words=None if words is None else tuple(words),
        tags=None if tags is None else tuple(tags),
    )


def _kind(example: Example) -> TaskKind:
    if example.words is not None:
        return TaskKind.TAGGING if example.label is None else TaskKind.JOINT
    return TaskKind.CLASSIFICATION if isinstance(example.label, str) else TaskKind.REGRESSION


def _choices(train: list[Example], test: list[Example], file: Path, field: str) -> tuple[str, ...]:
    known, asked = (Counter(_values(rows, field)) for rows in (train, test))
    if unknown := asked.keys() - known.keys():
        counts = ", ".join(f"{name!r} ({asked[name]} times)" for name in sorted(unknown))
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
