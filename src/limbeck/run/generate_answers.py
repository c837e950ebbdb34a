"""Answers that a decoder generates to prompts, as files of prompts to learn from.

Source: answers of the teacher in place of references, Kim, Rush 2016, Sequence-Level Knowledge
Distillation, arXiv:1606.07947.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..data.prompts import Prompt
from ..evaluation.settings import GenerationSettings
from ..evaluation.text_generator import TextGenerator
from ..models.locate import fingerprint
from .answer_files import check_answers, write_answers
from .generated_files import Texts, load_generator

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
    check_answers(output, prompts, temperature)
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        chat_template=chat_template,
        batch_size=batch_size,
    )
    console = console or Console(quiet=True)
    return write_answers(
        ModelAnswers(model, load_generator(model, console), settings),
        output,
        settings,
        facts=asdict(settings),
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

    @property
    def kept_at_once(self) -> int:
        """Answers that are kept together."""
        return _KEPT_AT_ONCE

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

    def answers(self, rows: Sequence[Prompt], *, seed: int, first: int) -> tuple[Texts, int]:
        """Answers to some prompts, and how many of these were too long."""
        table = self.generator.table(rows, self.settings)
        chance = int(np.random.default_rng((seed, first)).integers(2**31))
        tokens, ended = self.generator.answers(table.prompts, self.settings, seed=chance)
        answers = list(zip(map(self.generator.text, tokens), ended, strict=True))
        return answers, table.truncated_prompts

    def note(self, count: int, total: int) -> str:
        """That prompts were too long."""
        return f"{count:,} of {total:,} prompts were too long and lost their beginning"
