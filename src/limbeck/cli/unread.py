"""Flags of `limbeck evaluate` that nothing would read are refused before it measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from ..errors import EvaluationError

if TYPE_CHECKING:
    from ..data.prompt_sources import TaskLocation

_OF_TUNING = (
    *("max_train_samples", "search", "num_train_epochs", "learning_rate"),
    *("batch_size", "pooling"),
)
_OF_PROMPTS = ("max_new_tokens", "temperature", "max_eval_samples", "chat_template")


@dataclass(frozen=True)
class Measured:
    """What a command measures, as far as it decides which flags are read.

    Attributes:
        rows: Whether there are tasks of labels, numbers or tags.
        prompts: Whether there are tasks of prompts.
        tuned: Whether the model is fine-tuned on the tasks of rows.
        similarity: Whether vectors of pairs with numbers are scored.
        vectors: Whether vectors of any kind are scored.
        threads: Whether the number of threads is set: for size and speed, and for exported files.
    """

    rows: bool
    prompts: bool
    tuned: bool
    similarity: bool
    vectors: bool
    threads: bool

    @staticmethod
    def by(
        given: Mapping[str, Any], tasks: Sequence["TaskLocation"], *, of_file: bool
    ) -> "Measured":
        """What a command measures.

        Args:
            given: Its parameters.
            tasks: Those of --task.
            of_file: Whether the model is a folder of `limbeck export`.

        Raises:
            DataError: A task cannot be read.
        """
        from ..evaluation.task_files import is_generation_task

        answered = [is_generation_task(task) for task in tasks]
        return Measured(
            rows=not all(answered),
            prompts=any(answered),
            tuned=not all(answered) and not given["own_head"] and not of_file,
            similarity=bool(given["similarity"]),
            vectors=any(given[name] for name in ("similarity", "retrieval", "bitext")),
            threads=given["cost"] or of_file or bool(given["documents"]),
        )


def check_measured(given: Mapping[str, Any], *, something: bool) -> None:
    """Refuse a command that would measure nothing.

    Args:
        given: Its parameters.
        something: Whether vectors or an exported file are measured.

    Raises:
        EvaluationError: Nothing is named to be measured.
    """
    if something or given["task"] or given["teacher"] or given["cost"]:
        return
    raise EvaluationError(
        "nothing is named that the model is scored on; give --task, --similarity, --retrieval or"
        " --bitext, or --cost for its size and speed"
    )


def check_read(
    given: Mapping[str, Any], known: Mapping[str, Parameter], measured: Measured
) -> None:
    """Refuse what nothing would read.

    Args:
        given: The parameters of the command.
        known: The same with their defaults.
        measured: What the command measures.

    Raises:
        EvaluationError: Something else than a default is given, and nothing reads it.
    """
    if measured.rows and not measured.tuned:
        _refuse(
            ("seeds", *_OF_TUNING, *(() if measured.vectors else ("precision",))),
            "the model is scored with the head that it has, and nothing is fine-tuned; leave it"
            " out, or fine-tune a new head (without --own-head)",
            (given, known),
        )
    tasks = "tasks of labels, numbers or tags, and none is named"
    readers = (
        (measured.tuned, _OF_TUNING, tasks),
        (measured.rows, ("own_head",), tasks),
        (measured.rows or measured.vectors, ("max_length",), "tasks of rows and vectors"),
        (measured.prompts, _OF_PROMPTS, "tasks of prompts, and none is named"),
        (measured.rows or measured.prompts, ("seeds",), "tasks, and none is named"),
        (measured.tuned or measured.vectors, ("precision",), "fine-tuning and vectors"),
        (
            measured.rows or measured.prompts or measured.similarity,
            ("split",),
            "tasks and --similarity",
        ),
        (measured.threads, ("threads",), "--cost and folders of limbeck export"),
    )
    for there, names, what in readers:
        if not there:
            _refuse(names, f"it is for {what}; leave it out", (given, known))


def _refuse(
    names: Sequence[str], why: str, flags: tuple[Mapping[str, Any], Mapping[str, Parameter]]
) -> None:
    given, known = flags
    named = [f"--{n.replace('_', '-')}" for n in names if given[n] != known[n].default]
    if named:
        raise EvaluationError(f"{' and '.join(named)} would not be read: {why}")
