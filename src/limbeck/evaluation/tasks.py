"""Tasks as files of JSON lines: what is asked, how it is scored, and what is wrong with them."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from ..data.json_lines import file_of_split, has_split, read_rows
from ..data.prompts import as_prompt, read_with_documents
from ..errors import DataError


class TaskKind(str, Enum):
    """What a model must say of a text."""

    CLASSIFICATION = "classification"  # one of several labels, for a text or a pair
    REGRESSION = "regression"  # a number, for a text or a pair
    TAGGING = "tagging"  # a tag for every word, spans in IOB2
    JOINT = "joint"  # a label for the text and a tag for every word
    GENERATION = "generation"  # a text that answers a prompt


@dataclass(frozen=True)
class Example:
    """One row: words and tags where the task tags, text and label where it classifies.

    Where it asks for a text, the prompt and the references that answer it. ``place`` tells its
    file and line, for messages.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | float | None = None
    words: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    references: tuple[str, ...] | None = None
    place: str = field(default="", compare=False, repr=False)


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
    **{
        f"sib200_{language}": KnownTask("accuracy", language, "seven topics")
        for language in ("en", "ru", "de", "fr", "es")
    },
    "ru_stories": KnownTask("rouge_l", "ru", "a story from words and features"),
    "instructions": KnownTask("rouge_l", "en", "short answers to prompts of many kinds"),
    "squality": KnownTask("rouge_l", "en", "summaries of stories that answer a question"),
    "qmsum": KnownTask("rouge_l", "en", "summaries of meetings that answer a query"),
}
_FIELDS = ("text", "text_pair", "label", "tokens", "tags")  # that a row may have
_NAMED = 6  # labels, in messages
# What each kind can be scored by; the first one heads the table of a task that is not known.
_METRICS = {
    TaskKind.CLASSIFICATION: ("accuracy", "macro_f1", "matthews", "f1"),
    TaskKind.REGRESSION: ("spearman", "pearson"),
    TaskKind.TAGGING: ("span_f1", "exact_sentence"),
    TaskKind.GENERATION: ("rouge_l",),
    TaskKind.JOINT: ("intent_accuracy", "span_f1", "exact_sentence"),
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
        scored_as: Name of the files that are scored, by which a published task is known.
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
    scored_as: str = ""


def load_task(location: str, *, test_split: str | None = None) -> Task:
    """The task whose files begin with ``location``, as ``DIR/sst2`` for sst2.train.jsonl.gz.

    Args:
        location: Folder and common name of the files. ``DIR/sib200_en>sib200_ru`` learns
            from the rows of the first and is scored on those of the second, in the same
            folder: what one language gives in another.
        test_split: ``dev``, ``test`` or another; by default dev, else test.

    Raises:
        DataError: A file is missing or broken, rows are of several kinds, the
            scored file has labels that the training file lacks, or the task is
            known by name and its rows cannot be scored as that task is.
    """
    learned, other, scored = location.partition(">")
    source = Path(learned.strip())
    place = source.with_name(scored.strip()) if scored.strip() else source
    if other and place == source:
        raise DataError(f"{location!r} names one task; give two as DIR/LEARNED>SCORED")
    train = list(_read(source, "train"))
    if test_split is None:
        test_split = "dev" if has_split(place, "dev") else "test"
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
        name=f"{source.name}_to_{place.name}" if other else place.name,
        kind=kind,
        headline=known.headline if known else _METRICS[kind][0],
        positive=known.positive if known else None,
        train=train,
        test=test,
        test_split=test_split,
        labels=labels if kind in (TaskKind.CLASSIFICATION, TaskKind.JOINT) else (),
        tags=tags,
        scored_as=place.name,
    )
    if known:
        _check_known(task, location, known)
    return task


def numbers_of(task: Task) -> str:
    """The labels of a task of numbers, the first few of them, and whether they are whole."""
    labels = sorted({float(row.label or 0) for row in [*task.train, *task.test]})
    named = ", ".join(f"{label:.16g}" for label in labels[:_NAMED])
    more = ", ..." if len(labels) > _NAMED else ""
    kind = "whole numbers" if all(label.is_integer() for label in labels) else "numbers"
    return f"{kind} ({named}{more})"


def asks_for_texts(location: str) -> bool:
    """Whether the task is one of prompts, by its first training row.

    Raises:
        DataError: There is no file, or its first row is broken.
    """
    learned = Path(location.partition(">")[0].strip())
    row, _ = next(read_rows(file_of_split(learned, "train")))
    return "references" in row


def subsample(task: Task, *, rows: int | None, seed: int, written: int | None = None) -> Task:
    """The task with at most that many training rows, the same ones for every model.

    Args:
        task: As read.
        rows: To learn from.
        seed: Decides which.
        written: Prompts at most where texts are asked for, the first ones.

    Raises:
        DataError: Fewer than one row is asked for.
    """
    if rows is not None and rows < 1:
        raise DataError(f"{rows} training rows of {task.name} are asked for; give 1 or more")
    if task.kind is TaskKind.GENERATION and written is not None:
        task = replace(task, test=task.test[:written])
    if rows is None or rows >= len(task.train):
        return task
    chosen = np.sort(np.random.default_rng(seed).permutation(len(task.train))[:rows])
    train = [task.train[int(number)] for number in chosen]
    return replace(task, train=train)


def _check_known(task: Task, location: str, known: KnownTask) -> None:
    kind, labels = task.kind, task.labels
    if known.headline not in _METRICS[kind]:
        of = f" of the class {known.positive!r}" if known.positive else ""
        scored = f"the task of that name is scored by {known.headline}"
        if kind is TaskKind.REGRESSION and known.headline in _METRICS[TaskKind.CLASSIFICATION]:
            raise DataError(
                f"{location} has {numbers_of(task)} as labels, which are scored as regression, but"
                f' {scored}{of}; write them as strings ("0" for 0) to make them classes, or'
                " give the files another name"
            )
        if kind is TaskKind.CLASSIFICATION and known.headline in _METRICS[TaskKind.REGRESSION]:
            raise DataError(
                f"{location} has the strings {', '.join(map(repr, labels[:_NAMED]))} as labels,"
                f' which are classes, but {scored}; write them as numbers (0.5 for "0.5"), or'
                " give the files another name"
            )
        raise DataError(
            f"the rows of {location} are of the kind {kind.value}, but {scored}; give the files"
            " another name"
        )
    # F1 of a label that never occurs would be 0 for every model, without a word.
    if known.positive is not None and known.positive not in labels:
        raise DataError(
            f"{location} has the labels {', '.join(map(repr, labels))}, but the task of that name"
            f" is scored by F1 of {known.positive!r}; rename the labels, or the files"
        )


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
    """Fields that would not be read."""
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
