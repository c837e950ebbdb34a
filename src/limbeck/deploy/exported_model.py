"""An exported folder, run from texts on the engine of its file."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import ExportError
from ..evaluation.finetune import SeedScore
from ..evaluation.tasks import Task
from ..models.task_heads import TaskHead
from ..run.task_batches import Reader
from ..system.int8_range import int8_range
from ..tokenization.chat import tokenize_said
from ..tokenization.frame import frame_of
from ..tokenization.load import load_tokenizer
from ..tokenization.text_bytes import tokenize_texts
from .batches import Given, example_of, outputs_of
from .engines import open_file
from .formats import FORMATS
from .gguf_files.llama_cpp_file import LlamaCppFile
from .results import RESULT
from .scores import FileEncoder, score_of_file

_VERSION_KEY = "limbeck_export"


def is_exported(name: str) -> bool:
    """Whether a name is that of a folder which `limbeck export` wrote."""
    return _result(Path(name)) is not None


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
        format: Of the file that runs.
        max_length: Tokens of a text that are read.

    Raises:
        ExportError: It is no such folder, or does not hold the file.
        MissingExtraError: The engine of the file is not installed.
    """

    def __init__(
        self, folder: str | Path, *, format: str | None = None, threads: int | None = None
    ) -> None:
        result = _result(Path(folder))
        if result is None:
            raise ExportError(
                f"{str(folder)!r} has no {RESULT} of `limbeck export`; export the model first"
            )
        self.kind: str = result["kind"]
        self.format = _chosen(str(folder), result, format)
        self._file = open_file(Path(folder) / FORMATS[self.format].file, threads)
        self.name = str(folder)
        said = result["reading"]
        self.labels: tuple[str, ...] = tuple(said["labels"])
        self.max_length: int = said["max_length"]
        tokenizer = load_tokenizer(str(folder))
        self._reader = Reader(tokenizer, self.max_length, said["segments"])
        self._prompts: dict[str, str] = said["prompts"]
        self._default_prompt: str = said["default_prompt"]
        self._lowercase: bool = said["lowercase"]

    def logits(self, texts: Sequence[Given], *, batch_size: int = 32) -> Any:
        """What a classifier, tagger, scoring or language model says of texts.

        Args:
            texts: Texts, pairs (tuples of two texts) or the words of a text (lists).
            batch_size: Texts at once, of similar length.

        Returns:
            An array [texts, classes]; of a tagger a list of arrays [words, tags], of a language
            model a list of arrays [tokens, vocabulary].

        Raises:
            ExportError: The model gives no logits.
        """
        if self.kind in ("vectors", "body"):
            own = "encode" if self.kind == "vectors" else "hidden_states"
            raise ExportError(f"the model has no logits (its kind is {self.kind}); use {own}")
        found = self._outputs(texts, batch_size)
        return self._stacked(found) if self.kind == "sequence" else found

    def encode(
        self, texts: Sequence[str], *, prompt: str | None = None, batch_size: int = 32
    ) -> Float[ndarray, "texts width"]:
        """The vectors of texts, pooled and scaled as the model says.

        Args:
            texts: Longer ones than the model reads are truncated at their end.
            prompt: The name of one of the model's prompts, or a text that is put before each; by
                default the model's own, if it has one.
            batch_size: Texts at once, of similar length.

        Raises:
            ExportError: The model gives no vectors of texts.
        """
        if self.kind != "vectors":
            own = "hidden_states" if self.kind == "body" else "logits"
            raise ExportError(
                f"the model makes no vectors of texts (its kind is {self.kind}); use {own}"
            )
        before = self._default_prompt if prompt is None else self._prompts.get(prompt, prompt)
        given = [before + text for text in texts]
        if self._lowercase:
            given = [text.lower() for text in given]
        return self._stacked(self._outputs(given, batch_size))

    def hidden_states(self, texts: Sequence[Given], *, batch_size: int = 32) -> list[ndarray]:
        """The last hidden states of each text, [tokens, hidden].

        Args:
            texts: As of `logits`.
            batch_size: Texts at once, of similar length.

        Raises:
            ExportError: The model gives something else.
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
        tokenizer = self._reader.tokenizer
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
        one = self._file(dict.fromkeys(self._file.inputs, np.ones((1, 1), np.int64)))
        return FileEncoder(
            name=self.name,
            tokenizer=self._reader.tokenizer,
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
        return len(self._reader.tokenizer)

    def need_head(self) -> TaskHead:
        """The head of a classifier, tagger or scoring model.

        Raises:
            ExportError: The model has none.
        """
        if self.kind == "token":
            return TaskHead("token", self.labels)
        if self.kind == "sequence":
            return TaskHead("sequence", self.labels)
        raise ExportError(
            f"{self.name!r} has no head of a classifier, tagger or scoring model (its kind is"
            f" {self.kind}); score vectors with --similarity, or export a model with a head"
        )

    def score(self, task: Task, *, max_length: int = 2**20) -> SeedScore:
        """The score of the model's own head on the test rows of a task.

        Args:
            task: With all labels of the head.
            max_length: Tokens of a row at most; never more than the model reads.

        Raises:
            ExportError: The model has no head.
            EvaluationError: A number is not finite.
        """
        head = self.need_head()
        reader = replace(self._reader, limit=min(max_length, self.max_length))
        return score_of_file(self._file, reader, head, task)

    def _outputs(self, texts: Sequence[Given], batch_size: int) -> list[ndarray]:
        readings = [self._reader.read(example_of(text)) for text in texts]
        found = outputs_of(self._file, self._reader, readings, size=batch_size)
        if self.kind != "token":
            return found
        return [
            output[np.array(one.begins) >= 0] if one.words else output
            for output, one in zip(found, readings, strict=True)
        ]

    def _stacked(self, found: list[ndarray]) -> ndarray:
        if not found:
            raise ExportError("there is no text; give one at least")
        return np.stack(found)


def _result(folder: Path) -> dict[str, Any] | None:
    """The content of export.json; None where it is none of `limbeck export`."""
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get(_VERSION_KEY) == 1 else None


def _chosen(folder: str, result: dict[str, Any], wanted: str | None) -> str:
    """The format whose file runs."""
    there = {one["format"]: one for one in result["candidates"] if one["file"]}
    if not there:
        raise ExportError(
            f"{folder!r} holds no model file: none kept enough of its model (see export.md); export"
            " again with a lower --keep, or with --force"
        )
    if wanted is not None:
        if wanted not in there:
            raise ExportError(
                f"{folder!r} has no file of the format {wanted!r}; it has {', '.join(there)}"
            )
        return wanted
    default: str = result["default"]
    saturates = int8_range().reduced and there[default]["exact_on"] != "any processor"
    others = [name for name in there if not FORMATS[name].saturates]
    return min(others, key=lambda name: _seconds(there[name])) if saturates and others else default


def _seconds(candidate: dict[str, Any]) -> float:
    """The time of the quickest forward; 0 where it was not measured."""
    times = candidate["times"]
    return min(row[2] for row in times["rows"]) if times else 0.0
