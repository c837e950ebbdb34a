"""Answers that a decoder generates to prompts, as files of prompts to learn from.

Source: answers of the teacher in place of references, Kim, Rush 2016, Sequence-Level Knowledge
Distillation, arXiv:1606.07947.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..data.json_lines import file_of_split, has_split
from ..data.prompts import Prompt, read_prompts
from ..errors import DataError, EvaluationError
from ..evaluation.settings import GenerationSettings
from ..evaluation.text_generator import TextGenerator
from ..generation.options import temperature_problem
from ..models.locate import fingerprint
from ..system.files import checksum, remembered
from ..system.progress import ProgressBar
from .generated_files import Texts, line_of, load_generator, report_endless, write_prompts

_SPLITS = ("train", "dev")
_KEPT_AT_ONCE = 512  # answers


def generate_answers(
    model: str,
    output: Path | str,
    *,
    prompts: str,
    rows: int | None = None,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    chat_template: bool = False,
    seed: int = 0,
    batch_size: int = 32,
    console: Console | None = None,
) -> dict[str, int]:
    """Let a decoder answer prompts, and count the answers of each file.

    Answers are kept as they come, so that the same call resumes where it was stopped. Prompts
    whose answer has no letter are left out.

    Args:
        model: Folder or hub name of a decoder.
        output: DIR/NAME of the files.
        prompts: DIR/NAME of the prompts, whose train and dev files are answered.
        rows: Prompts of each file at most, the first ones.
        max_new_tokens: Tokens of an answer at most.
        temperature: Of the distribution that tokens are drawn from; 0 is greedy.
        chat_template: Prompts stand in the model's chat template.
        seed: Decides the answers.
        batch_size: Prompts at once.
        console: For the progress bar.

    Raises:
        DataError: There are no prompts, or the answers would overwrite them.
        EvaluationError: The model is no decoder, there is no room for a prompt, or it answers
            nothing.
    """
    place, source = Path(output), Path(prompts)
    if place.absolute() == source.absolute():
        raise DataError(f"{output} is where the prompts are; give another place for the answers")
    if problem := temperature_problem(temperature):
        raise DataError(f"the temperature {problem}")
    splits = [split for split in _SPLITS if has_split(source, split)]
    files = [file_of_split(source, split) for split in splits or _SPLITS]
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        chat_template=chat_template,
        batch_size=batch_size,
    )
    console = console or Console(quiet=True)
    generator = load_generator(model, console)
    identity = _identity(model, generator, settings, files) | {"seed": seed}
    kept = place.with_name(f"{place.name}.parts")
    lines: dict[str, list[str]] = {}
    for split in splits:
        asked = list(islice(read_prompts(prompts, split, answered=False), rows))
        found = _answers(generator, asked, settings, identity, kept / split, console)
        lines[split] = _lines(model, asked, found)
    counts = write_prompts(place, lines)
    shutil.rmtree(kept, ignore_errors=True)
    return counts


def _lines(model: str, asked: Sequence[Prompt], found: Texts) -> list[str]:
    """Prompts and their answers as rows of a file, without answers that have no letter."""
    pairs = zip(asked, found, strict=True)
    lines = [line_of(row.text, text) for row, (text, _) in pairs if text.strip()]
    if not lines:
        raise EvaluationError(
            f"{model} answers none of {len(asked):,} prompts with a letter; generate longer"
            " answers (`max_new_tokens`), or name a model that answers"
        )
    return lines


def _identity(
    model: str, generator: TextGenerator, settings: GenerationSettings, files: Sequence[Path]
) -> dict[str, Any]:
    """All that decides the answers, but for the seed."""
    return {
        "model": fingerprint(model),
        "prompts": checksum(*files),
        "generation": asdict(settings),
        "template": settings.chat_template and generator.tokenizer.chat_template,
        "ends": list(generator.ends),
    }


def _answers(
    generator: TextGenerator,
    asked: Sequence[Prompt],
    settings: GenerationSettings,
    identity: dict[str, Any],
    kept: Path,
    console: Console,
) -> Texts:
    """An answer to every prompt; those that were generated before are read from their files."""
    found: Texts = []
    too_long = 0
    with ProgressBar(f"answering {kept.name}", console=console) as bar:
        while len(found) < len(asked):
            some = asked[len(found) : len(found) + _KEPT_AT_ONCE]
            part = {**identity, "first": len(found), "rows": len(some)}
            file = kept.with_name(f"{kept.name}.{len(found)}.json")
            answers, shortened = _some_answers(generator, some, settings, part, file)
            found, too_long = found + answers, too_long + shortened
            bar.show(len(found), len(asked), "")
    if too_long:
        said = f"{too_long:,} of {len(asked):,} prompts were too long and lost their beginning"
        console.print(said, highlight=False)
    report_endless(found, settings.max_new_tokens, console)
    return found


def _some_answers(
    generator: TextGenerator,
    rows: Sequence[Prompt],
    settings: GenerationSettings,
    part: dict[str, Any],
    file: Path,
) -> tuple[Texts, int]:
    """Answers to some prompts, and how many of these were too long."""

    def generated() -> dict[str, Any]:
        table = generator.table(rows, settings)
        chance = int(np.random.default_rng((part["seed"], part["first"])).integers(2**31))
        tokens, ended = generator.answers(table.prompts, settings, seed=chance)
        answers = list(zip(map(generator.text, tokens), ended, strict=True))
        return {"answers": answers, "too_long": table.truncated_prompts}

    found = remembered(file, part, generated)
    return [(text, ended) for text, ended in found["answers"]], found["too_long"]
