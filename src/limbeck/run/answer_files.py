"""Answers to the prompts of files, kept as they come, so that a stopped command resumes."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from rich.console import Console

from ..data.json_lines import file_of_split, has_split
from ..data.prompt_sources import PromptLocation
from ..data.prompts import (
    Prompt,
    content_of_prompts,
    files_of_prompts,
    read_prompts,
    source_of_prompts,
)
from ..data.row_files import stored_rows
from ..data.rows import path_of
from ..errors import DataError, EvaluationError
from ..evaluation.settings import GenerationSettings
from ..generation.options import temperature_problem
from ..system.files import checksum, kept, write_text
from ..system.progress import ProgressBar
from .generated_files import SPLITS, answer_line, check_free, report_endless, write_prompts


class Answer(NamedTuple):
    """What a model answers to a prompt.

    Attributes:
        text: Empty where there is none.
        ended: Whether it came to its end.
        note: What is to be told of it; empty for most.
    """

    text: str
    ended: bool
    note: str = ""


class Part(NamedTuple):
    """Prompts whose answers are kept in one file.

    Attributes:
        place: Where they begin among all, in the order in which they are answered.
        rows: Their numbers.
    """

    place: int
    rows: Sequence[int]


@runtime_checkable
class Answerer(Protocol):
    """A model that answers prompts."""

    @property
    def name(self) -> str:
        """Of the model, for messages."""
        ...

    def identity(self) -> dict[str, Any]:
        """All that decides the answers, but for prompts, settings and seed."""
        ...

    def origin(self) -> dict[str, Any] | None:
        """What is noted beside the files of the answers; None notes nothing."""
        ...

    def parts(self, asked: Sequence[Prompt]) -> Iterable[Part]:
        """All prompts in parts, in the order in which they are answered."""
        ...

    def answers(
        self, asked: Sequence[Prompt], part: Part, answered: Mapping[int, Answer], *, seed: int
    ) -> Iterator[tuple[int, Answer]]:
        """The answers of a part that ``answered`` lacks, by their numbers, as they come."""
        ...

    def note(self, notes: Mapping[int, str], total: int) -> str:
        """The sentence on the notes of some of all prompts."""
        ...


def check_answers(
    output: Path | str, prompts: PromptLocation, settings: GenerationSettings, rows: int | None
) -> None:
    """Refuse what needs no model to be seen.

    Args:
        output: DIR/NAME of the files of answers.
        prompts: Where the prompts are.
        settings: Of generation.
        rows: Prompts of each split at most, the first ones.

    Raises:
        DataError: The answers would overwrite files that are there, a setting is none, or a row is
            no prompt, or a conversation without a chat template.
    """
    if Path(output).absolute() == Path(path_of(prompts)).absolute():
        raise DataError(f"{output} is where the prompts are; give another place for the answers")
    if problem := temperature_problem(settings.temperature):
        raise DataError(f"the temperature {problem}")
    if settings.max_new_tokens < 1:
        raise DataError(f"max_new_tokens is {settings.max_new_tokens}; give at least 1")
    check_free(Path(output))
    for split in _splits(prompts):
        for row in islice(read_prompts(prompts, split, answered=False), rows):
            if row.conversation and not settings.chat_template:
                raise DataError(
                    f"{row.conversation.place} is a conversation, which is answered in a chat"
                    " template; give --chat-template (`chat_template=True`)"
                )


def write_answers(
    answerer: Answerer,
    output: Path | str,
    settings: GenerationSettings,
    *,
    prompts: PromptLocation,
    rows: int | None,
    seed: int,
    console: Console,
) -> dict[str, int]:
    """Answer the prompts of files, and count the answers of each file.

    Args:
        answerer: Answers them.
        output: DIR/NAME of the files.
        settings: Of generation.
        prompts: Where the prompts are, whose train and dev rows are answered.
        rows: Prompts of each split at most, the first ones.
        seed: Decides the answers.
        console: For the progress bar.

    Raises:
        DataError: There are no prompts.
        EvaluationError: The model answers nothing.
    """
    place = Path(output)
    splits = _splits(prompts)
    identity = {
        **answerer.identity(),
        "prompts": _content(prompts, splits),
        "generation": asdict(settings),
        "seed": seed,
    }
    unfinished = place.with_name(f"{place.name}.parts")
    folder = unfinished / _digest(identity)
    lines: dict[str, list[str]] = {}
    for split in splits:
        asked = list(islice(read_prompts(prompts, split, answered=False), rows))
        found = _answers(answerer, asked, identity, folder / split, console)
        report_endless([(a.text, a.ended) for a in found], settings.max_new_tokens, console)
        lines[split] = _lines(asked, found)
        if not any(lines.values()):
            raise EvaluationError(
                f"{answerer.name} answers none of {len(asked):,} prompts with a letter; generate"
                " longer answers (`max_new_tokens`), or name a model that answers"
            )
        _tell_what_is_left_out(asked, lines[split], split, console)
    with_rows = {split: some for split, some in lines.items() if some}
    counts = write_prompts(place, with_rows, origin=answerer.origin())
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # it holds unfinished answers of other settings, which stay
        unfinished.rmdir()
    return counts


def _lines(asked: Sequence[Prompt], found: Sequence[Answer]) -> list[str]:
    """Prompts and their answers as rows of a file, without answers that have no letter."""
    pairs = zip(asked, found, strict=True)
    return [answer_line(row, answer.text) for row, answer in pairs if answer.text.strip()]


def _tell_what_is_left_out(
    asked: Sequence[Prompt], lines: Sequence[str], split: str, console: Console
) -> None:
    if early := sum(row.conversation.left_out for row in asked if row.conversation):
        said = f"{early:,} answers before a first question of {split} prompts are left out"
        console.print(said, highlight=False, soft_wrap=True)
    if without := len(asked) - len(lines):
        said = f"{without:,} of {len(asked):,} {split} prompts are left out: no answer to them"
        console.print(f"{said} has a letter", highlight=False, soft_wrap=True)


def _splits(prompts: PromptLocation) -> list[str]:
    """The splits that are answered.

    Raises:
        DataError: There is none.
    """
    if (source := source_of_prompts(prompts)) is not None:
        stored = stored_rows(source).splits
        return [split for split in SPLITS if split in stored] or [SPLITS[0]]  # whose reading raises
    place = Path(str(prompts))
    splits = [split for split in SPLITS if has_split(place, split)]
    if not splits:
        file_of_split(place, SPLITS[0])  # raises, and says what is there
    return splits


def _content(prompts: PromptLocation, splits: Sequence[str]) -> str:
    """A hash of all that splits are read from."""
    if source_of_prompts(prompts) is not None:
        return content_of_prompts(prompts)
    return checksum(*(file for split in splits for file in files_of_prompts(prompts, split)))


def _digest(identity: Mapping[str, Any]) -> str:
    """A short name for settings, so that those of others keep their unfinished answers."""
    said = json.dumps(identity, sort_keys=True).encode()
    return hashlib.blake2b(said, digest_size=8).hexdigest()


def _answers(
    answerer: Answerer,
    asked: Sequence[Prompt],
    identity: Mapping[str, Any],
    place: Path,
    console: Console,
) -> list[Answer]:
    """An answer to every prompt; those that were generated before are read from their files."""
    found: dict[int, Answer] = {}
    with ProgressBar(f"answering {place.name}", console=console) as bar:
        for part in answerer.parts(asked):
            file = place.with_name(f"{place.name}.{part.place}.json")
            _answer_part(answerer, asked, part, identity, file, found)
            bar.show(len(found), len(asked), "")
    answers = [found[number] for number in range(len(asked))]
    if notes := {number: answer.note for number, answer in enumerate(answers) if answer.note}:
        console.print(answerer.note(notes, len(asked)), highlight=False, soft_wrap=True)
    return answers


def _answer_part(
    answerer: Answerer,
    asked: Sequence[Prompt],
    part: Part,
    identity: Mapping[str, Any],
    file: Path,
    found: dict[int, Answer],
) -> None:
    """Put the answers of a part into ``found``; all that come are in the file, even if it stops."""
    of = {**identity, "rows": list(part.rows)}
    before = kept(file, of) or {"answers": []}
    found |= {number: Answer(*answer) for number, *answer in before["answers"]}
    if all(number in found for number in part.rows):
        return
    try:
        for number, answer in answerer.answers(asked, part, found, seed=identity["seed"]):
            found[number] = answer
    finally:
        if there := [[number, *found[number]] for number in part.rows if number in found]:
            write_text(file, json.dumps({**of, "answers": there}, ensure_ascii=False))
