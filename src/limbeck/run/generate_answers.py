"""Answers to prompts by a decoder that runs here or on a server, as files to learn from.

Source: answers of the teacher in place of references, Kim, Rush 2016, Sequence-Level Knowledge
Distillation, arXiv:1606.07947.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..data.prompt_sources import PromptLocation
from ..data.prompts import Prompt
from ..evaluation.settings import GenerationSettings
from ..evaluation.text_generator import TextGenerator
from ..models.locate import fingerprint
from ..teacher.servers.client import ServerClient, served_model
from ..teacher.servers.settings import ServerSettings
from .answer_files import Answer, Answerer, Part, check_answers, write_answers
from .generated_files import load_generator
from .server_answers import SEPARATOR, ServerAnswers

_ORDERED_AT_ONCE = 512  # prompts, of which those of about one length are answered together


def generate_answers(
    model: str | ServerSettings,
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
    whose answer has no letter are left out, and those that a server refuses or fails on while it
    answers others. Which model of a server answered is noted in NAME.origin.json.

    Args:
        model: Folder or hub name of a decoder, or how an OpenAI-compatible server is reached.
        output: DIR/NAME of the files.
        prompts: DIR/NAME of the prompts, whose train and dev files are answered; or a file or
            folder of rows, or its description.
        rows: Prompts of each file at most, the first ones.
        max_new_tokens: Tokens of an answer at most.
        temperature: Of the distribution that tokens are drawn from; 0 is greedy.
        chat_template: Prompts stand in the model's chat template; otherwise they are texts that it
            continues after a line break.
        seed: Decides the answers; those of a server where it can repeat itself.
        batch_size: Prompts at once; a server is asked as many as its settings say.
        console: For the progress bar.

    Raises:
        DataError: There are no prompts, files of that name are there, or a setting is none.
        ServerError: The server cannot be reached, lacks the model, or gave up; all that it
            answered is kept.
        EvaluationError: The model is no decoder, there is no room for a prompt, or it answers
            nothing.
    """
    runs_here = isinstance(model, str)
    of_kind: dict[str, Any] = {"batch_size": batch_size} if runs_here else {"separator": SEPARATOR}
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        chat_template=chat_template,
        **of_kind,
    )
    check_answers(output, prompts, settings, rows)
    console = console or Console(quiet=True, markup=False)
    with _answerer(model, settings, Path(output), console) as answerer:
        return write_answers(
            answerer,
            output,
            settings,
            prompts=prompts,
            rows=rows,
            seed=seed,
            console=console,
        )


@contextmanager
def _answerer(
    model: str | ServerSettings, settings: GenerationSettings, output: Path, console: Console
) -> Iterator[Answerer]:
    """The model that answers, loaded or connected to."""
    if isinstance(model, str):
        yield ModelAnswers(model, load_generator(model, console), settings)
        return
    tell = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    with ServerClient(model, tell=tell) as client:
        served_model(client)
        yield ServerAnswers(client, settings, output, tell)


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
