"""Answers that a decoder generates to prompts, as files of prompts to learn from.

Source: answers of the teacher in place of references, Kim, Rush 2016, Sequence-Level Knowledge
Distillation, arXiv:1606.07947.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..data.prompt_sources import PromptLocation
from ..data.prompts import Prompt
from ..evaluation.settings import GenerationSettings
from ..evaluation.text_generator import TextGenerator
from ..models.locate import fingerprint
from .answer_files import Answer, Part, check_answers, write_answers
from .generated_files import load_generator

_ORDERED_AT_ONCE = 512  # prompts, of which those of about one length are answered together


def generate_answers(
    model: str,
    output: Path | str,
    *,
    prompts: PromptLocation,
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
        prompts: DIR/NAME of the prompts, whose train and dev files are answered; or a file or
            folder of rows, or its description.
        rows: Prompts of each file at most, the first ones.
        max_new_tokens: Tokens of an answer at most.
        temperature: Of the distribution that tokens are drawn from; 0 is greedy.
        chat_template: Prompts stand in the model's chat template.
        seed: Decides the answers.
        batch_size: Prompts at once.
        console: For the progress bar.

    Raises:
        DataError: There are no prompts, files of that name are there, or a setting is none.
        EvaluationError: The model is no decoder, there is no room for a prompt, or it answers
            nothing.
    """
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        chat_template=chat_template,
        batch_size=batch_size,
    )
    check_answers(output, prompts, settings, rows)
    console = console or Console(quiet=True, markup=False)
    return write_answers(
        ModelAnswers(model, load_generator(model, console), settings),
        output,
        settings,
        prompts=prompts,
        rows=rows,
        seed=seed,
        console=console,
    )


@dataclass(frozen=True)
class ModelAnswers:
    """Answers of a decoder that runs here."""

    name: str
    generator: TextGenerator
    settings: GenerationSettings

    def identity(self) -> dict[str, Any]:
        """The model, its template and its ends."""
        return {
            "model": fingerprint(self.name),
            "template": self.settings.chat_template and self.generator.tokenizer.chat_template,
            "ends": list(self.generator.ends),
        }

    def origin(self) -> None:
        """Nothing is noted."""
        return

    def parts(self, asked: Sequence[Prompt]) -> Iterator[Part]:
        """The batches of each so many prompts by length, the longest first.

        So what the model keeps of a batch has room for the next one.
        """
        size = self.settings.batch_size
        for first in range(0, len(asked), _ORDERED_AT_ONCE):
            some = asked[first : first + _ORDERED_AT_ONCE]
            lengths = [*map(len, self.generator.table(some, self.settings).prompts)]
            order = sorted(range(len(some)), key=lengths.__getitem__)
            for start in reversed(range(0, len(order), size)):
                yield Part(first + start, [first + row for row in order[start : start + size]])

    def answers(
        self, asked: Sequence[Prompt], part: Part, answered: Mapping[int, Answer], *, seed: int
    ) -> Iterator[tuple[int, Answer]]:
        """The answers of a batch, which come together; ``answered`` has all of them or none."""
        tables = [self.generator.table([asked[row]], self.settings) for row in part.rows]
        start = part.place % _ORDERED_AT_ONCE
        chance = np.random.default_rng((seed, part.place - start)).integers(2**31)
        prompts = [table.prompts[0] for table in tables]
        found, ended = self.generator.answers(prompts, self.settings, seed=int(chance) + start)
        for row, table, tokens, end in zip(part.rows, tables, found, ended, strict=True):
            note = "too long" if table.truncated_prompts else ""
            yield row, Answer(self.generator.text(tokens), end, note)

    def note(self, notes: Mapping[int, str], total: int) -> str:
        """That prompts were too long."""
        return f"{len(notes):,} of {total:,} prompts were too long and lost their beginning"
