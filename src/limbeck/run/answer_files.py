"""Answers to the prompts of files, kept as they come, so that a stopped command resumes."""

import shutil
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console

from ..data.json_lines import file_of_split, has_split
from ..data.prompts import Prompt, read_prompts
from ..errors import DataError, EvaluationError
from ..evaluation.settings import GenerationSettings
from ..generation.options import temperature_problem
from ..system.files import checksum, remembered
from ..system.progress import ProgressBar
from .generated_files import Texts, answer_line, report_endless, write_prompts

_SPLITS = ("train", "dev")


@runtime_checkable
class Answerer(Protocol):
    """A model that answers prompts."""

    @property
    def name(self) -> str:
        """Of the model, for messages."""
        ...

    @property
    def kept_at_once(self) -> int:
        """Answers that are kept together; those of one that is not complete are lost by a stop."""
        ...

    def identity(self) -> dict[str, Any]:
        """All that decides the answers, but for prompts, settings and seed."""
        ...

    def origin(self) -> dict[str, Any] | None:
        """What is noted beside the files of the answers; None notes nothing."""
        ...

    def answers(self, rows: Sequence[Prompt], *, seed: int, first: int) -> tuple[Texts, int]:
        """Answers to some prompts, the first of which has this number, and of how many to tell."""
        ...

    def note(self, count: int, total: int) -> str:
        """The sentence on so many of all prompts."""
        ...


def check_answers(output: Path | str, prompts: str, temperature: float) -> None:
    """Refuse what needs no model to be seen.

    Raises:
        DataError: The answers would overwrite the prompts, or the temperature is none.
    """
    if Path(output).absolute() == Path(prompts).absolute():
        raise DataError(f"{output} is where the prompts are; give another place for the answers")
    if problem := temperature_problem(temperature):
        raise DataError(f"the temperature {problem}")


def write_answers(
    answerer: Answerer,
    output: Path | str,
    settings: GenerationSettings,
    *,
    facts: Mapping[str, Any],
    prompts: str,
    rows: int | None,
    seed: int,
    console: Console,
) -> dict[str, int]:
    """Answer the prompts of files, and count the answers of each file.

    Args:
        answerer: Answers them.
        output: DIR/NAME of the files.
        settings: Of generation.
        facts: The same as JSON values.
        prompts: DIR/NAME of the prompts, whose train and dev files are answered.
        rows: Prompts of each file at most, the first ones.
        seed: Decides the answers.
        console: For the progress bar.

    Raises:
        DataError: There are no prompts.
        EvaluationError: The model answers nothing.
    """
    place, source = Path(output), Path(prompts)
    splits = [split for split in _SPLITS if has_split(source, split)]
    files = [file_of_split(source, split) for split in splits or _SPLITS]
    identity = {
        **answerer.identity(),
        "prompts": checksum(*files),
        "generation": dict(facts),
        "seed": seed,
    }
    kept = place.with_name(f"{place.name}.parts")
    lines: dict[str, list[str]] = {}
    for split in splits:
        asked = list(islice(read_prompts(prompts, split, answered=False), rows))
        found = _answers(answerer, asked, identity, kept / split, console)
        report_endless(found, settings.max_new_tokens, console)
        lines[split] = _lines(answerer.name, asked, found)
        if early := sum(row.conversation.left_out for row in asked if row.conversation):
            said = f"{early:,} answers before a first question of {split} prompts are left out"
            console.print(said, highlight=False, soft_wrap=True)
        if without := len(asked) - len(lines[split]):
            said = f"{without:,} of {len(asked):,} {split} prompts are left out: no answer to them"
            console.print(f"{said} has a letter", highlight=False, soft_wrap=True)
    counts = write_prompts(place, lines, origin=answerer.origin())
    shutil.rmtree(kept, ignore_errors=True)
    return counts


def _lines(model: str, asked: Sequence[Prompt], found: Texts) -> list[str]:
    """Prompts and their answers as rows of a file, without answers that have no letter."""
    pairs = zip(asked, found, strict=True)
    lines = [answer_line(row, text) for row, (text, _) in pairs if text.strip()]
    if not lines:
        raise EvaluationError(
            f"{model} answers none of {len(asked):,} prompts with a letter; generate longer"
            " answers (`max_new_tokens`), or name a model that answers"
        )
    return lines


def _answers(
    answerer: Answerer,
    asked: Sequence[Prompt],
    identity: dict[str, Any],
    kept: Path,
    console: Console,
) -> Texts:
    """An answer to every prompt; those that were generated before are read from their files."""
    found: Texts = []
    told = 0
    with ProgressBar(f"answering {kept.name}", console=console) as bar:
        while len(found) < len(asked):
            some = asked[len(found) : len(found) + answerer.kept_at_once]
            part = {**identity, "first": len(found), "rows": len(some)}
            file = kept.with_name(f"{kept.name}.{len(found)}.json")
            answers, more = _some_answers(answerer, some, part, file)
            found, told = found + answers, told + more
            bar.show(len(found), len(asked), "")
    if told:
        console.print(answerer.note(told, len(asked)), highlight=False, soft_wrap=True)
    return found


def _some_answers(
    answerer: Answerer, rows: Sequence[Prompt], part: dict[str, Any], file: Path
) -> tuple[Texts, int]:
    """Answers to some prompts, and of how many of these there is something to tell."""

    def generated() -> dict[str, Any]:
        answers, told = answerer.answers(rows, seed=part["seed"], first=part["first"])
        return {"answers": answers, "told": told}

    found = remembered(file, part, generated)
    return [(text, ended) for text, ended in found["answers"]], found["told"]
