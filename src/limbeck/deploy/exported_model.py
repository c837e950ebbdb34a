"""An exported folder, run from texts on the engine of its file."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from ..errors import ExportError
from ..evaluation.finetune import SeedScore
from ..evaluation.tasks import Task
from ..models.task_heads import TaskHead
from ..run.reader import Reader
from ..system.files import expanded
from ..tokenization.chat import tokenize_said
from ..tokenization.frame import frame_of
from ..tokenization.load import load_tokenizer
from ..tokenization.text_bytes import tokenize_texts
from .batches import (
    Given,
    check_batch_size,
    check_text,
    example_of,
    given_texts,
    outputs_of,
    rows_of_words,
)
from .engines import open_file
from .exported_folder import chosen_format, result_of
from .formats import FORMATS
from .gguf_files.llama_cpp_file import LlamaCppFile
from .results import RESULT
from .scores import FileEncoder, score_of_file
from .settings import check_threads

_NO_TEXT = "there is no text; give one at least"


def is_exported(name: str) -> bool:
    """Whether a name is that of a folder which `limbeck export` wrote.

    Raises:
        ExportError: It is, and its export.json is broken.
    """
    return result_of(Path(name)) is not None


class ExportedModel:
    """A model file with its tokenizer.

    Args:
        folder: Of `limbeck export`.
        format: Of its files; by default the one that was fastest, or another where that is not
            exact on this processor.
        threads: That compute; None for as many as there are cores.

    Attributes:
        name: The folder.
        kind: What it says of a text: vectors, sequence, token, masked, causal or body.
        labels: Of a classifier or tagger, in the order of the logits.
        multi_label: Whether these do not exclude one another: each holds whose logit is above 0.
        format: Of the file that runs.
        max_length: Tokens of a text that are read.
        reader: Makes tokens of rows.

    Raises:
        ExportError: It is no such folder, or does not hold the file; or ``threads`` is 0 or less.
        MissingExtraError: The engine of the file is not installed.
    """

    def __init__(
        self, folder: str | Path, *, format: str | None = None, threads: int | None = None
    ) -> None:
        check_threads(threads)
        place = expanded(folder)
        result = result_of(place)
        if result is None:
            raise ExportError(
                f"{str(folder)!r} has no {RESULT} of `limbeck export`; export the model first"
            )
        self.kind: str = result["kind"]
        self.format = chosen_format(str(place), result, format)
        self._file = open_file(place / FORMATS[self.format].file, threads)
        self.name = str(folder)
        said = result["reading"]
        self.labels: tuple[str, ...] = tuple(said["labels"])
        self.max_length: int = said["max_length"]
        tokenizer = load_tokenizer(str(place))
        self.reader = Reader(tokenizer, self.max_length, said["segments"])
        self.multi_label: bool = said.get("multi_label", False)
        self._prompts: dict[str, str] = said["prompts"]
        self._default_prompt: str = said["default_prompt"]
        self._lowercase: bool = said["lowercase"]

    def logits(self, texts: Sequence[Given], *, batch_size: int = 32) -> Any:
        """What a classifier, tagger, scoring or language model says of texts.

        Args:
            texts: Each a text, or a pair (a tuple or list of two texts). For a tagger each is a
                list of words, or a text, which `data.words.words_of` splits into words.
            batch_size: Texts at once, of similar length.

        Returns:
            An array [texts, classes]; of a tagger a list of arrays [words, tags], NaN in the rows
            of words that were truncated or have no token; of a language model a list of arrays
            [tokens, vocabulary].

        Raises:
            ExportError: The model gives no logits, or something else is given.
        """
        if self.kind in ("vectors", "body"):
            own = "encode" if self.kind == "vectors" else "hidden_states"
            raise ExportError(f"the model has no logits (its kind is {self.kind}); use {own}")
        found = self._outputs(texts, batch_size)
        if self.kind != "sequence":
            return found
        if not found:
            raise ExportError(_NO_TEXT)
        return np.stack(found)

    def encode(
        self, texts: str | Sequence[str], *, prompt: str | None = None, batch_size: int = 32
    ) -> ndarray:
        """The vectors of texts, pooled and scaled as the model says.

        Args:
            texts: Several, or one. Longer ones than the model reads are truncated at their end.
            prompt: The name of one of the model's prompts, or a text that is put before each, as
                `limbeck evaluate` reads them; by default the model's own, if it has one.
            batch_size: Texts at once, of similar length.

        Returns:
            An array [texts, width]; of one text [width].

        Raises:
            ExportError: The model gives no vectors of texts, or something else is given.
            ModelError: The model has no prompt of that name.
            EvaluationError: A text has no tokens, or a vector is not finite.
        """
        if self.kind != "vectors":
            own = "hidden_states" if self.kind == "body" else "logits"
            raise ExportError(
                f"the model makes no vectors of texts (its kind is {self.kind}); use {own}"
            )
        check_batch_size(batch_size)
        if isinstance(texts, str):
            [one] = self.encode([texts], prompt=prompt, batch_size=batch_size)
            return np.asarray(one)
        given = given_texts(texts)
        for text in given if prompt is None else [*given, prompt]:
            check_text(text)
        if not given:
            raise ExportError(_NO_TEXT)
        encoder = self._encoder
        return encoder.encode(given, prompt=encoder.prompt(prompt), batch_size=batch_size)

    def hidden_states(self, texts: Sequence[Given], *, batch_size: int = 32) -> list[ndarray]:
        """The last hidden states of each text, [tokens, hidden].

        Args:
            texts: As of `logits`.
            batch_size: Texts at once, of similar length.

        Raises:
            ExportError: The model gives something else, or something else is given.
        """
        if self.kind != "body":
            own = "encode" if self.kind == "vectors" else "logits"
            raise ExportError(f"the file gives no states (its kind is {self.kind}); use {own}")
        return self._outputs(texts, batch_size)

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        chat_template: bool = False,
    ) -> str:
        """The text with which a decoder continues a prompt, by llama.cpp with its cache.

        Args:
            prompt: Special tokens that it spells are read as text.
            max_new_tokens: At most.
            temperature: 0 takes the most likely token each time.
            seed: Of the random numbers.
            chat_template: Put the prompt in the model's chat template.

        Raises:
            ExportError: The file is no GGUF file of a decoder, or the prompt leaves no room.
            DataError: There is no chat template, or it fails.
        """
        if not isinstance(self._file, LlamaCppFile) or self.kind != "causal":
            raise ExportError(
                f"the format {self.format} of a model of the kind {self.kind} does not generate"
                " text; export a decoder to a GGUF format, and name it: format='gguf'"
            )
        check_text(prompt)
        tokenizer = self.reader.tokenizer
        if chat_template:
            ids = tokenize_said(tokenizer, [prompt])[0].ids.tolist()
        else:
            said = tokenize_texts(tokenizer, [prompt])[0].ids.tolist()
            ids = [*frame_of(tokenizer).begin, *said]
        if max_new_tokens < 1 or len(ids) + max_new_tokens > self.max_length:
            raise ExportError(
                f"the prompt has {len(ids)} tokens, max_new_tokens is {max_new_tokens}, and the"
                f" model reads {self.max_length} together; give a shorter prompt, or another number"
            )
        found = self._file.generate(ids, max_new_tokens, temperature=temperature, seed=seed)
        return str(tokenizer.decode(list(found)))

    def encoder(self) -> FileEncoder:
        """What makes vectors of texts, read as `limbeck evaluate` reads them for a model in torch.

        Raises:
            ExportError: The model gives no vectors of texts.
        """
        if self.kind != "vectors":
            raise ExportError(
                f"{self.name!r} makes no vectors of texts (its kind is {self.kind}); export a"
                " folder of sentence-transformers"
            )
        return self._encoder

    @cached_property
    def _encoder(self) -> FileEncoder:
        one = self._file(dict.fromkeys(self._file.inputs, np.ones((1, 1), np.int64)))
        return FileEncoder(
            name=self.name,
            tokenizer=self.reader.tokenizer,
            width=one.shape[-1],
            max_length=self.max_length,
            prompts=self._prompts,
            default_prompt=self._default_prompt,
            lowercase=self._lowercase,
            forward=self._file,
        )

    @property
    def vocabulary_size(self) -> int:
        """Tokens that texts are made of."""
        return len(self.reader.tokenizer)

    def need_head(self) -> TaskHead:
        """The head of a classifier, tagger or scoring model.

        Raises:
            ExportError: The model has none.
        """
        if self.kind == "token":
            return TaskHead("token", self.labels)
        if self.kind == "sequence":
            return TaskHead("sequence", self.labels, self.multi_label)
        raise ExportError(
            f"{self.name!r} has no head of a classifier, tagger or scoring model (its kind is"
            f" {self.kind}); score vectors with --similarity, or export a model with a head"
        )

    def score(self, task: Task, *, max_length: int | None = None) -> SeedScore:
        """The score of the model's own head on the test rows of a task.

        Args:
            task: With all labels of the head.
            max_length: Tokens of a row at most, never more than the model reads; None for all that
                it reads.

        Raises:
            ExportError: The model has no head.
            EvaluationError: A number is not finite.
        """
        head = self.need_head()
        reader = replace(self.reader, limit=min(max_length or self.max_length, self.max_length))
        return score_of_file(self._file, reader, head, task)

    def _outputs(self, texts: Sequence[Given], batch_size: int) -> list[ndarray]:
        check_batch_size(batch_size)
        of_words = self.kind == "token"
        rows = [example_of(text, of_words=of_words) for text in given_texts(texts)]
        readings = [self.reader.read(row) for row in rows]
        found = outputs_of(self._file, self.reader, readings, size=batch_size)
        if not of_words:
            return found
        return [
            rows_of_words(output, reading, len(row.words or ()))
            for output, reading, row in zip(found, readings, rows, strict=True)
        ]
