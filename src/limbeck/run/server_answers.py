"""Answers to prompts by a server that gives text alone, as files of prompts to learn from.

Source: answers of the teacher in place of references, Kim, Rush 2016, Sequence-Level Knowledge
Distillation, arXiv:1606.07947.
"""

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..data.prompts import Prompt
from ..errors import DataError, ServerError
from ..evaluation.settings import GenerationSettings
from ..teacher.servers.client import RequestRefusedError, ServerClient, served_model
from ..teacher.servers.settings import ServerSettings
from ..teacher.servers.texts import TextOptions, chat_completion, completion
from .answer_files import check_answers, write_answers
from .generated_files import Texts

_KEPT_AT_ONCE = 4  # answers, for each request at once
# A server refuses a prompt so that is too long or has what its template does not know.
_OF_THE_PROMPT = {400, 413, 422}
_SEPARATOR = "\n"  # between prompt and answer, as for decoders that run here


def generate_server_answers(
    server: ServerSettings,
    output: Path | str,
    *,
    prompts: str,
    rows: int | None = None,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    chat_template: bool = False,
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, int]:
    """Let the model on a server answer prompts, and count the answers of each file.

    Answers are kept as they come, so that the same call resumes where it was stopped. Prompts that
    the server refuses, and those whose answer has no letter, are left out. Which model answered is
    noted in NAME.origin.json.

    Args:
        server: Is OpenAI-compatible.
        output: DIR/NAME of the files.
        prompts: DIR/NAME of the prompts, whose train and dev files are answered.
        rows: Prompts of each file at most, the first ones.
        max_new_tokens: Tokens of an answer at most.
        temperature: Of the distribution that tokens are drawn from; 0 is greedy.
        chat_template: Prompts are messages, which the server puts into its chat template;
            otherwise they are texts that it continues after a line break.
        seed: Decides the answers, where the server can repeat itself.
        console: For the progress bar.

    Raises:
        DataError: There are no prompts, or the answers would overwrite them.
        ServerError: The server cannot be reached, lacks the model, or gave up; what it answered
            before is kept.
        EvaluationError: It answers nothing.
    """
    check_answers(output, prompts, temperature)
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        chat_template=chat_template,
        separator=_SEPARATOR,
    )
    with ServerClient(server) as client:
        served_model(client)
        return write_answers(
            ServerAnswers(client, settings, Path(output)),
            output,
            settings,
            facts=asdict(settings),
            prompts=prompts,
            rows=rows,
            seed=seed,
            console=console or Console(quiet=True),
        )


@dataclass(frozen=True)
class ServerAnswers:
    """Answers of the model that a client has connections to."""

    client: ServerClient
    settings: GenerationSettings
    output: Path
    _refused: list[str] = field(default_factory=list, init=False)
    _noting: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def name(self) -> str:
        """Of the model on the server."""
        return f"{self.client.model} at {self.client.settings.url}"

    @property
    def kept_at_once(self) -> int:
        """Answers that are kept together."""
        return _KEPT_AT_ONCE * self.client.settings.concurrency

    def identity(self) -> dict[str, Any]:
        """The model by its name, as a server tells no more; it may move."""
        return {"served": self.client.model}

    def origin(self) -> dict[str, Any]:
        """The server, the model, and how it was asked."""
        return {
            "server": self.client.settings.url,
            "model": self.client.model,
            "asked": "chat completions" if self.settings.chat_template else "completions",
            "max_new_tokens": self.settings.max_new_tokens,
            "temperature": self.settings.temperature,
        }

    def answers(self, rows: Sequence[Prompt], *, seed: int, first: int) -> tuple[Texts, int]:
        """Answers to some prompts, and how many of these the server refused."""
        seeds = [_seed(seed, number) for number in range(first, first + len(rows))]
        before = len(self._refused)
        try:
            found = list(self.client.threads.map(self._answer, rows, seeds))
        except ServerError as error:
            raise ServerError(
                f"the server gave up after {first:,} answers: {error}. These are kept beside"
                f" {self.output}: run the same command to resume"
            ) from error
        refused = len(self._refused) - before
        if refused == len(rows) and first == 0:  # all of so many: it is not the prompts
            raise ServerError(
                f"{self.client.settings.url} refuses {refused} prompts, one after another:"
                f" {self._refused[-1]}"
            )
        return found, refused

    def note(self, count: int, total: int) -> str:
        """That prompts were refused."""
        why = f", the last one because: {self._refused[-1]}" if self._refused else ""
        return f"{count:,} of {total:,} prompts were refused and are left out{why}"

    def _answer(self, row: Prompt, seed: int) -> tuple[str, bool]:
        options = TextOptions(self.settings.max_new_tokens, self.settings.temperature)
        told = row.conversation
        if told and not self.settings.chat_template:
            raise DataError(
                f"{told.place} is a conversation, which a server answers in its chat template; give"
                " --chat-template"
            )
        try:
            if not self.settings.chat_template:
                return completion(self.client, row.text + _SEPARATOR, options, seed=seed)
            asked = told.messages[:-1] if told else ({"role": "user", "content": row.text},)
            tools = told.tools if told else ()
            return chat_completion(self.client, asked, options, tools=tools, seed=seed)
        except RequestRefusedError as error:
            if error.status not in _OF_THE_PROMPT:
                raise
            with self._noting:
                self._refused.append(f"{error.status} ({error.said})")
            return "", True


def _seed(seed: int, number: int) -> int:
    """The seed of an answer, whatever is asked beside it."""
    return int(np.random.default_rng((seed, number)).integers(2**31))
