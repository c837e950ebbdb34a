"""What a task is, and how it is scored."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from ..data.chats import Conversation
from ..data.prompts import Prompt
from ..data.rows import StoredSource
from ..errors import DataError
from .rankings import ranked_queries


class TaskKind(StrEnum):
    """What a model must say of a text."""

    CLASSIFICATION = "classification"  # one of several labels, for a text or a pair
    MULTI_LABEL = "multi_label_classification"  # any number of labels, for a text or a pair
    REGRESSION = "regression"  # a number, for a text or a pair
    TAGGING = "tagging"  # a tag for every word, spans in IOB2
    JOINT = "joint"  # a label for the text and a tag for every word
    GENERATION = "generation"  # a text that answers a prompt


@dataclass(frozen=True)
class Example:
    """One row of a task.

    A tagging task has words and tags, a classification task a text (or a pair) and a label, or all
    labels that hold, a generation task a prompt as its text and references, or a conversation,
    whose last answer is the reference. ``place`` is the file and line of the row, for messages.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | float | tuple[str, ...] | None = None
    words: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    references: tuple[str, ...] | None = None
    conversation: Conversation | None = field(default=None, repr=False, hash=False)
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class KnownTask:
    """How a published task is scored.

    Attributes:
        headline: The metric that tables show.
        language: Of its texts; "mixed" where there are several.
        about: One line.
        positive: The label that F1 is computed for, where the headline is ``f1``.
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
_NAMED = 6  # labels, in messages
# What each kind can be scored by; the first is the headline of a task that is not published.
METRICS = {
    TaskKind.CLASSIFICATION: ("accuracy", "macro_f1", "matthews", "f1"),
    TaskKind.MULTI_LABEL: ("micro_f1", "macro_f1", "subset_accuracy"),
    TaskKind.REGRESSION: ("spearman", "pearson", "ndcg_at_10", "mrr"),
    TaskKind.TAGGING: ("span_f1", "exact_sentence"),
    TaskKind.GENERATION: ("rouge_l",),
    TaskKind.JOINT: ("intent_accuracy", "span_f1", "exact_sentence"),
}


@dataclass(frozen=True)
class Task:
    """A task, read and checked.

    Attributes:
        name: The files' common name.
        kind: As the rows show.
        headline: The metric that tables show.
        positive: The label that F1 is computed for, if there is one.
        train: Rows to learn from.
        test: Rows that are scored.
        test_split: The file that those come from.
        labels: Sorted labels of the training rows; empty where the task has none.
        tags: Sorted tags of the training rows; empty where the task has none.
        scored_as: Name of the files that are scored, by which a published task is known.
        source: What describes the rows; None where they are DIR/NAME of task files.
        notes: What was decided while the rows were read, in sentences.
        shared: Places of scored rows whose text is among the training rows, each with the place
            of such a row; of prompts, none.
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
    source: StoredSource | None = None
    notes: tuple[str, ...] = ()
    shared: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Tags, or the labels of texts that may have several: what a row has some of."""
        return self.labels if self.kind is TaskKind.MULTI_LABEL else self.tags

    @property
    def relevances(self) -> list[float]:
        """The numbers of the test rows, where numbers are predicted."""
        return [number_of(row) for row in self.test]

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts of the test rows with their references, where texts are generated."""
        return [Prompt(str(row.text), row.references or (), row.conversation) for row in self.test]

    @property
    def queries(self) -> list[str]:
        """The query of each test row, where rows are documents ranked for queries; else none.

        Rows are, where they are pairs with a number and several have the same first text.
        Published tasks are scored as they always are.
        """
        pairs = self.kind is TaskKind.REGRESSION and all(row.text_pair for row in self.test)
        found = [str(row.text) for row in self.test] if pairs else []
        ranked = len(set(found)) < len(found) and self.scored_as not in TASKS
        return found if ranked else []


def labels_of(row: Example) -> tuple[str, ...]:
    """The classes that a row has: one, or all that hold; none of numbers."""
    if isinstance(row.label, tuple):
        return row.label
    return (row.label,) if isinstance(row.label, str) else ()


def number_of(row: Example) -> float:
    """The number that a row has as its label; 0 without one."""
    return row.label if isinstance(row.label, float) else 0.0


def ranking_headline(task: Task) -> str:
    """nDCG@10 where most queries of the scored rows can be ranked, else the headline that it has.

    Args:
        task: As it was read.
    """
    ranked = len(ranked_queries(task.relevances, task.queries)) if task.queries else 0
    return "ndcg_at_10" if 2 * ranked > len(set(task.queries)) else task.headline


def are_documents(rows: Sequence[Example]) -> bool:
    """Whether rows are documents of queries: pairs without classes, most first texts recurring.

    Args:
        rows: With numbers, or without labels.
    """
    if any(row.text_pair is None or isinstance(row.label, (str, tuple)) for row in rows):
        return False
    recurs = [count > 1 for count in Counter(row.text for row in rows).values()]
    return 2 * sum(recurs) > len(recurs)


def numbers_of(task: Task) -> str:
    """The first few labels of a regression task, and whether all of them are whole numbers."""
    labels = sorted({number_of(row) for row in [*task.train, *task.test]})
    named = ", ".join(f"{label:.16g}" for label in labels[:_NAMED])
    more = ", ..." if len(labels) > _NAMED else ""
    kind = "whole numbers" if all(label.is_integer() for label in labels) else "numbers"
    return f"{kind} ({named}{more})"


def subsample(task: Task, *, rows: int | None, seed: int, prompts: int | None = None) -> Task:
    """The task with at most that many training rows, the same ones for every model.

    Args:
        task: As read.
        rows: Training rows at most; None keeps all.
        seed: Decides which.
        prompts: Prompts of a generation task at most, the first ones.

    Raises:
        DataError: Fewer than one row is requested.
    """
    if rows is not None and rows < 1:
        raise DataError(f"{rows} training rows of {task.name} are requested; give 1 or more")
    if task.kind is TaskKind.GENERATION and prompts is not None:
        task = replace(task, test=task.test[:prompts])
    if rows is None or rows >= len(task.train):
        return task
    chosen = np.sort(np.random.default_rng(seed).permutation(len(task.train))[:rows])
    train = [task.train[int(number)] for number in chosen]
    return replace(task, train=train)


def check_known(task: Task, location: str, known: KnownTask) -> None:
    """See that the rows can be scored as the published task of that name is.

    Raises:
        DataError: They cannot; the message says what to change.
    """
    kind, labels = task.kind, task.labels
    other = "give the files another name"
    if task.source is not None:
        other = "give another task_name"
    if known.headline not in METRICS[kind]:
        of = f" of the class {known.positive!r}" if known.positive else ""
        scored = f"the task of that name is scored by {known.headline}"
        if kind is TaskKind.REGRESSION and known.headline in METRICS[TaskKind.CLASSIFICATION]:
            raise DataError(
                f"{location} has {numbers_of(task)} as labels, which are scored as regression, but"
                f' {scored}{of}; write them as strings ("0" for 0) to make them classes, or {other}'
            )
        if kind is TaskKind.CLASSIFICATION and known.headline in METRICS[TaskKind.REGRESSION]:
            raise DataError(
                f"{location} has the strings {', '.join(map(repr, labels[:_NAMED]))} as labels,"
                f' which are classes, but {scored}; write them as numbers (0.5 for "0.5"), or'
                f" {other}"
            )
        raise DataError(
            f"the rows of {location} are of the kind {kind.value}, but {scored}; {other}"
        )
    # F1 of a label that never occurs would silently be 0 for every model.
    if known.positive is not None and known.positive not in labels:
        raise DataError(
            f"{location} has the labels {', '.join(map(repr, labels))}, but the task of that name"
            f" is scored by F1 of {known.positive!r}; rename the labels, or the files"
        )
