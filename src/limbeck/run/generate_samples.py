"""Texts that a decoder generates from nothing, as files of empty prompts to learn from."""

from pathlib import Path

import numpy as np
from rich.console import Console

from ..errors import DataError, EvaluationError
from ..evaluation.settings import GenerationSettings
from ..evaluation.text_generator import TextGenerator
from ..generation.options import temperature_problem
from ..system.progress import ProgressBar
from ..tokenization.frame import frame_of
from .generated_files import (
    Texts,
    check_free,
    line_of,
    load_generator,
    report_endless,
    write_prompts,
)


def generate_samples(
    model: str,
    output: Path | str,
    *,
    rows: int,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    dev_fraction: float = 0.05,
    seed: int = 0,
    batch_size: int = 32,
    console: Console | None = None,
) -> dict[str, int]:
    """Let a decoder generate texts from nothing, and count the texts of each file.

    Prompts are empty, and the texts are their references: NAME.train.jsonl and NAME.dev.jsonl.

    Args:
        model: Folder or hub name of a decoder.
        output: DIR/NAME of the files.
        rows: Texts in all.
        max_new_tokens: Tokens of a text at most.
        temperature: Of the distribution that tokens are drawn from.
        dev_fraction: Of the texts, for the second file.
        seed: Decides the texts.
        batch_size: Texts at once.
        console: For the progress bar.

    Raises:
        DataError: Fewer than two texts are requested, all of them would be the same, or files of
            that name are there.
        EvaluationError: The model is no decoder, reads fewer tokens than a text has, or
            generates nothing.
    """
    if rows < 2 or max_new_tokens < 2:
        raise DataError(
            f"{rows} texts of {max_new_tokens} tokens are too few; give 2 or more of both"
        )
    if temperature == 0:
        raise DataError("the temperature is 0; give more than 0, else all texts are the same")
    if problem := temperature_problem(temperature):
        raise DataError(f"the temperature {problem}")
    check_free(Path(output))
    console = console or Console(quiet=True, markup=False)
    generator = load_generator(model, console)
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens, temperature=temperature, batch_size=batch_size
    )
    found = _texts(model, generator, settings, rows=rows, seed=seed, console=console)
    report_endless(found, max_new_tokens, console)
    lines = [line_of("", text) for text, _ in found]
    dev = max(1, round(dev_fraction * rows))
    return write_prompts(Path(output), {"train": lines[dev:], "dev": lines[:dev]})


def _texts(
    model: str,
    generator: TextGenerator,
    settings: GenerationSettings,
    *,
    rows: int,
    seed: int,
    console: Console,
) -> Texts:
    """So many texts that have a letter."""
    first = list(frame_of(generator.tokenizer).begin)
    if len(first) + settings.max_new_tokens > generator.positions:
        raise EvaluationError(
            f"{model} reads {generator.positions} tokens, fewer than {settings.max_new_tokens} and"
            " their beginning; generate shorter texts (`max_new_tokens`)"
        )
    found: Texts = []
    with ProgressBar("generating", console=console) as bar:
        while len(found) < rows:
            # Another seed than a measure's, which would give these very texts.
            chance = int(np.random.default_rng((seed, len(found))).integers(2**31))
            prompts = [first] * settings.batch_size
            tokens, ended = generator.answers(prompts, settings, seed=chance)
            texts = zip(map(generator.text, tokens), ended, strict=True)
            some = [(text, end) for text, end in texts if text.strip()]
            if not some:
                raise EvaluationError(
                    f"none of {settings.batch_size} texts of {model} has a letter; generate longer"
                    " ones (`max_new_tokens`), or name a model that generates from nothing"
                )
            found += some
            bar.show(min(len(found), rows), rows, "")
    return found[:rows]
