"""Answers to prompts by a server that gives text alone."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures import TimeoutError as SilenceError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.prompts import Prompt
from ..errors import ServerError
from ..evaluation.settings import GenerationSettings
from ..teacher.servers.client import RequestRefusedError, ServerClient
from ..teacher.servers.texts import TextOptions, chat_completion, completion
from .answer_files import Answer, Part

_LEAST_KEPT_AT_ONCE = 32  # answers
_KEPT_AT_ONCE = 4  # answers, for each request at once
_TRIES = 2  # of a prompt, with the retries of each, while the server answers others
_NAMED = 5  # prompts that are left out
# A server refuses a prompt so that is too long or has what its template does not know.
_OF_THE_PROMPT = {400, 413, 422}
_SILENCE = 60.0  # seconds
SEPARATOR = "\n"  # between prompt and answer, as for decoders that run here


@dataclass(frozen=True)
class ServerAnswers:
    """Answers of the model that a client has connections to; ``tell`` is told that it is silent."""

    client: ServerClient
    settings: GenerationSettings
    output: Path
    tell: Callable[[str], None]
    _good: list[Prompt] = field(default_factory=list, init=False)

    @property
    def name(self) -> str:
        """Of the model on the server."""
        return f"{self.client.model} at {self.client.settings.url}"

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

    def parts(self, asked: Sequence[Prompt]) -> Iterator[Part]:
        """The prompts in their order, enough at once that few requests wait for the last ones."""
        size = max(_LEAST_KEPT_AT_ONCE, _KEPT_AT_ONCE * self.client.settings.concurrency)
        for first in range(0, len(asked), size):
            yield Part(first, range(first, min(first + size, len(asked))))

    def answers(
        self, asked: Sequence[Prompt], part: Part, answered: Mapping[int, Answer], *, seed: int
    ) -> Iterator[tuple[int, Answer]]:
        """The answers of a part that ``answered`` lacks, as they come; last what is refused.

        Raises:
            ServerError: The server gave up, and not on some prompts alone.
        """
        again = [number for number in part.rows if number not in answered]
        refused: dict[int, str] = {}
        tries: Counter[int] = Counter()
        while again:
            failed: dict[int, ServerError] = {}
            for number, found in self._asked(asked, again, seed):
                if isinstance(found, Answer) and not found.note:
                    self._good[:] = [asked[number]]
                    yield number, found
                elif isinstance(found, Answer):
                    refused[number] = found.note
                elif found is not None:
                    failed[number] = found
            if failed or refused:
                self._see_that_it_answers(asked, answered, failed, refused, seed)
            tries.update(failed.keys())
            unasked = {*again} - {*answered} - {*refused} - {*failed}
            refused |= {n: str(error) for n, error in failed.items() if tries[n] >= _TRIES}
            again = sorted(unasked | {number for number in failed if tries[number] < _TRIES})
        for number, why in refused.items():
            yield number, Answer("", True, why)

    def note(self, notes: Mapping[int, str], total: int) -> str:
        """Which prompts were refused."""
        named = ", ".join(f"{number + 1:,}" for number in [*notes][:_NAMED])
        named += ", ..." if len(notes) > _NAMED else ""
        return (
            f"{len(notes):,} of {total:,} prompts were refused and are left out (number {named}),"
            f" the last one because: {[*notes.values()][-1]}"
        )

    def _asked(
        self, asked: Sequence[Prompt], numbers: Sequence[int], seed: int
    ) -> Iterator[tuple[int, Answer | ServerError | None]]:
        """What comes of some prompts, as it comes; None where so many failed before them."""
        threads, most = self.client.threads, max(2, self.client.settings.concurrency)
        futures = {threads.submit(self._tried, asked[n], _seed(seed, n)): n for n in numbers}
        failed = 0  # one after another
        for future in self._as_they_come(futures):
            found = None if future.cancelled() else future.result()
            failed = 0 if isinstance(found, Answer) else failed + 1
            if failed == most:
                for other in futures:
                    other.cancel()
            yield futures[future], found

    def _as_they_come(
        self, futures: Collection[Future[Answer | ServerError]]
    ) -> Iterator[Future[Answer | ServerError]]:
        """The futures as they are done; while none is, it is told that the server is silent."""
        left, told = {*futures}, self.client.settings
        while left:
            before = len(left)
            with suppress(SilenceError):
                for future in as_completed(left, timeout=_SILENCE):
                    left.remove(future)
                    yield future
            if left and len(left) == before:
                self.tell(
                    f"{told.url} has answered nothing in {_SILENCE:g} seconds;"
                    f" {min(before, told.concurrency)} requests wait, each attempt for"
                    f" {told.timeout:g} seconds at most (--timeout)"
                )

    def _see_that_it_answers(
        self,
        asked: Sequence[Prompt],
        answered: Mapping[int, Answer],
        failed: Mapping[int, ServerError],
        refused: Mapping[int, str],
        seed: int,
    ) -> None:
        """Ask what it has answered, be it of another split, or else the shortest prompt.

        Raises:
            ServerError: It does not answer that one either.
        """
        good = [number for number, answer in answered.items() if not answer.note]
        if good and not failed:  # refused for what they are, and not because it is down
            return
        shortest = min(range(len(asked)), key=lambda number: len(asked[number].text))
        probes = [asked[good[-1]]] if good else [*self._good]
        if not probes and shortest not in failed and shortest not in refused:
            probes = [asked[shortest]]
        for probe in probes:
            found = self._tried(probe, seed)
            if isinstance(found, Answer) and not found.note:
                return
        if not failed:
            raise ServerError(
                f"{self.client.settings.url} refuses {len(refused)} prompts, one after another:"
                f" {[*refused.values()][-1]}"
            )
        error = [*failed.values()][-1]
        if not good and not self._good:
            raise ServerError(f"the server gives no answer: {error}") from error
        raise ServerError(
            f"the server gave up after {len(good):,} answers: {error}. These are kept beside"
            f" {self.output}: run the same command to resume"
        ) from error

    def _tried(self, row: Prompt, seed: int) -> Answer | ServerError:
        """An answer; why there is none as its note, or as an error where that may be chance."""
        try:
            return Answer(*self._answer(row, seed))
        except RequestRefusedError as error:
            if error.status in _OF_THE_PROMPT:
                return Answer("", True, f"{error.status} ({error.said})")
            return error
        except ServerError as error:
            return error

    def _answer(self, row: Prompt, seed: int) -> tuple[str, bool]:
        options = TextOptions(self.settings.max_new_tokens, self.settings.temperature)
        told = row.conversation
        if not self.settings.chat_template:
            return completion(self.client, row.text + SEPARATOR, options, seed=seed)
        asked = told.messages[:-1] if told else ({"role": "user", "content": row.text},)
        tools = told.tools if told else ()
        return chat_completion(self.client, asked, options, tools=tools, seed=seed)


def _seed(seed: int, number: int) -> int:
    """The seed of an answer, whatever is asked beside it."""
    return int(np.random.default_rng((seed, number)).integers(2**31))
