"""A GGUF file on llama.cpp: arrays in, an array out; and texts that a decoder continues."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ...errors import ExportError
from ..arrays import Feed, Output
from .library import Context, Model

# Keys that `limbeck export` adds: what the file gives, and whether vectors have length 1, which
# llama.cpp leaves to its caller.
OUTPUT, NORMALIZED = "limbeck.output", "limbeck.normalize"
_LOGITS, _VECTORS = "logits", "sentence_embedding"
# Tokens of several texts at once, as the mask is as large as all of them; and such texts.
_TOGETHER, _TEXTS = 512, 64


class LlamaCppFile:
    """A model of llama.cpp on the processor.

    Args:
        file: The model, of `limbeck export`.
        threads: That compute; None for as many as there are cores.

    Attributes:
        inputs: Names of the arrays that it takes.

    Raises:
        ExportError: llama.cpp cannot load the file, or another program wrote it.
        MissingExtraError: llama-cpp-python is not installed.
    """

    inputs: tuple[str, ...] = ("input_ids", "attention_mask")

    def __init__(self, file: Path, threads: int | None = None) -> None:
        self._model = Model(file)
        self._threads = threads or os.cpu_count() or 1
        self._context: Context | None = None
        self._output = self._model.said(OUTPUT)
        self._normalizes = self._model.said(NORMALIZED) == "true"
        if not self._output:
            raise ExportError(
                f"{file.name} does not say what it gives ({OUTPUT}), as files of `limbeck export`"
                " do; export the model again"
            )

    def __call__(self, feed: Feed) -> Output:
        """The only output, for int64 arrays [batch, tokens]; padding gives zeros.

        Raises:
            ExportError: A text has a second segment, which llama.cpp does not distinguish.
        """
        ids, mask = np.asarray(feed["input_ids"]), np.asarray(feed["attention_mask"]) > 0
        if "token_type_ids" in feed and (np.asarray(feed["token_type_ids"])[mask] > 0).any():
            raise ExportError(
                "llama.cpp does not distinguish the two texts of a pair; use another format"
            )
        texts = [one[real] for one, real in zip(ids, mask, strict=True)]
        found = [output for some in _batches(texts) for output in self._computed(some)]
        if self._output == _VECTORS:
            return np.stack(found)
        padded = np.zeros((*ids.shape, found[0].shape[-1]), np.float32)
        for place, real, output in zip(padded, mask, found, strict=True):
            place[real] = output
        return padded

    def generate(
        self, ids: Sequence[int], count: int, *, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[int]:
        """The tokens that continue others, until one ends the text.

        Args:
            ids: One at least, with the special tokens before a text.
            count: Of tokens at most.
            temperature: 0 takes the most likely token.
            seed: Of the random numbers.

        Raises:
            ExportError: The file gives no logits.
        """
        if self._output != _LOGITS:
            raise ExportError("only a decoder generates text, and this file gives no logits")
        chance, context = np.random.default_rng(seed), self._empty(len(ids) + count, 1)
        given, place = np.asarray(ids), 0
        for _ in range(count):
            context.run([given], first=place, last_only=True)
            place += len(given)
            token = _drawn(context.logits(1)[0], temperature, chance)
            if self._model.ends(token):
                return
            yield token
            given = np.array([token])

    def _computed(self, texts: Sequence[ndarray]) -> list[ndarray]:
        """The outputs of some texts, without padding."""
        total = sum(map(len, texts))
        context = self._empty(total, len(texts))
        context.run(texts)
        if self._output == _VECTORS:
            vectors = [context.vector(number) for number in range(len(texts))]
            return [scaled(one) for one in vectors] if self._normalizes else vectors
        found = context.logits(total) if self._output == _LOGITS else context.states(total)
        return np.split(found, np.cumsum([len(text) for text in texts])[:-1])

    def _empty(self, tokens: int, texts: int) -> Context:
        """An empty context for so many tokens of so many texts; a larger one is used again."""
        old = self._context
        if old is not None and tokens <= old.tokens and texts <= old.texts:
            old.clear()
            return old
        tokens, texts = max(tokens, _TOGETHER), max(texts, 1 if old is None else old.texts)
        self._context = old = None  # frees its memory
        self._context = Context(
            self._model,
            tokens=tokens,
            texts=texts,
            threads=self._threads,
            embeddings=self._output != _LOGITS,
        )
        return self._context


def scaled(vector: Float[ndarray, " width"]) -> Float[ndarray, " width"]:
    """A vector of length 1.

    >>> scaled(np.array([3.0, 4.0])).tolist()
    [0.6, 0.8]
    """
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _batches(texts: Sequence[ndarray]) -> Iterator[list[ndarray]]:
    """Neighbouring texts, as many as are run at once; a longer one alone."""
    some: list[ndarray] = []
    for text in texts:
        full = sum(map(len, some)) + len(text) > _TOGETHER or len(some) == _TEXTS
        if some and full:
            yield some
            some = []
        some.append(text)
    if some:
        yield some


def _drawn(
    logits: Float[ndarray, " vocabulary"], temperature: float, chance: np.random.Generator
) -> int:
    """The most likely token, or one drawn at a temperature (Gumbel-max)."""
    if temperature > 0:
        logits = logits / temperature + chance.gumbel(size=logits.shape)
    return int(logits.argmax())
