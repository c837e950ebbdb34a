"""An exported folder, run from texts on the engine of its file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import ExportError
from ..run.task_batches import Reader
from ..tokenization.load import load_tokenizer
from .batches import Given, example_of, outputs_of
from .engines import open_file
from .formats import FORMATS
from .int8_range import int8_range
from .tables import RESULT

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
    return others[-1] if saturates and others else default
